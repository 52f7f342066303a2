{{/*
The pods of a model's workers, as a template in a Deployment or in a LeaderWorkerSet. Takes (dict root
component model options), where the component is worker (what gateways talk to: a lone pod, or the
leader of a group) or follower (the rest of a group).
*/}}
{{- define "sluice.worker.pod" -}}
{{- $root := .root -}}
{{- $model := .options -}}
{{- $env := include "sluice.model.env" (list $root $model) -}}
{{- $preStop := int $model.preStopSeconds -}}
{{- if eq .component "follower" -}}
{{- /* The leader drains, and cannot without its followers. */}}
{{- $preStop = add $preStop (ceil $model.settings.drainSeconds) 5 | int -}}
{{- end -}}
metadata:
  labels: {{- include "sluice.podLabels" (merge (dict "extra" $model.podLabels) .) | nindent 4 }}
  annotations:
    {{- $checksum := dict "checksum/config" ($env | sha256sum) }}
    {{- merge $checksum (deepCopy $model.podAnnotations) | toYaml | nindent 4 }}
spec:
  {{- include "sluice.podSpec" . | nindent 2 }}
  {{- /* After the drain: a second for the last calls, two to leave a download, ten for the engine and the traces. */}}
  terminationGracePeriodSeconds: {{ add $preStop (ceil $model.settings.drainSeconds) 20 }}
  containers:
    - name: worker
      image: {{ include "sluice.image" (list $root $model.image) | quote }}
      imagePullPolicy: {{ $model.image.pullPolicy }}
      securityContext: {{- include "sluice.securityContext" (list $root $model) | nindent 8 }}
      env:
        {{- $env | nindent 8 }}
        {{- include "sluice.extraEnv" (list $model.extraEnv (printf "%s.extraEnv" $model.path) $env) | nindent 8 }}
      ports:
        - name: grpc
          containerPort: 50051
        - name: metrics
          containerPort: 9464
      {{- /* "" is the process. The model has a service of its own: loading may take hours. */}}
      startupProbe:
        {{- include "sluice.grpcProbe" "" | nindent 8 }}
        periodSeconds: 2
        failureThreshold: 90
      livenessProbe:
        {{- include "sluice.grpcProbe" "" | nindent 8 }}
        periodSeconds: 10
        failureThreshold: 6
      readinessProbe:
        {{- include "sluice.grpcProbe" (eq .component "worker" | ternary "sluice.worker.v1.WorkerService" "") | nindent 8 }}
        periodSeconds: 5
        failureThreshold: 2
      {{- include "sluice.preStop" (list $root $preStop) | nindent 6 }}
      resources: {{- include "sluice.model.resources" $model | nindent 8 }}
      volumeMounts:
        {{- include "sluice.model.sourceMounts" $model | nindent 8 }}
        {{- if $model.shm.size }}
        - name: shm
          mountPath: /dev/shm
        {{- end }}
        {{- with $model.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "sluice.model.sourceVolumes" $model | nindent 4 }}
    {{- with $model.shm.size }}
    - name: shm
      emptyDir:
        medium: Memory
        sizeLimit: {{ . }}
    {{- end }}
    {{- with $model.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Environment: which model, where its files are kept, the token's file. Same in worker and Job. */}}
{{- define "sluice.model.sourceEnv" -}}
- name: MODEL_ID
  value: {{ .source | quote }}
{{- with .revision }}
- name: MODEL_REVISION
  value: {{ . | quote }}
{{- end }}
- name: MODELS_DIR
  value: /models
- name: HF_HOME
  value: /cache
{{- if .hfToken.existingSecret }}
- name: HF_TOKEN_PATH
  value: /var/run/secrets/sluice/hf-token/token
{{- end }}
{{- end -}}

{{/* All of a worker's environment but extraEnv. Takes (list root model). */}}
{{- define "sluice.model.env" -}}
{{- $root := index . 0 -}}
{{- $address := $root.Values.bindAddress -}}
{{- with index . 1 -}}
- name: WORKER_ADDRESS
  value: {{ printf "%s:50051" $address | quote }}
- name: METRICS_ADDRESS
  value: {{ printf "%s:9464" $address | quote }}
- name: MODEL_DEVICE
  value: {{ .device }}
{{- with .servedModelName }}
- name: SERVED_MODEL_NAME
  value: {{ . | quote }}
{{- end }}
{{ include "sluice.model.sourceEnv" . }}
{{ include "sluice.telemetry" (list $root "sluice-worker") }}
{{- include "sluice.settings" .settings }}
{{- if .loraModules }}
{{- $adapters := list }}
{{- range $name, $source := .loraModules }}
{{- $adapters = append $adapters (printf "%s=%s" $name $source) }}
{{- end }}
- name: LORA_MODULES
  value: {{ join "," $adapters | quote }}
{{- end }}
{{- /* The controller puts its variables before these, so that they can be taken from them. */}}
{{- if .grouped }}
- name: NODE_COUNT
  value: $(LWS_GROUP_SIZE)
- name: NODE_RANK
  value: $(LWS_WORKER_INDEX)
- name: LEADER_ADDRESS
  value: $(LWS_LEADER_ADDRESS)
{{- end }}
{{- end -}}
{{- end -}}

{{- define "sluice.model.sourceMounts" -}}
- name: tmp
  mountPath: /tmp
- name: cache
  mountPath: /cache
{{- range $index, $claim := .claims }}
- name: {{ eq $index 0 | ternary "source" (printf "source-%d" $index) }}
  mountPath: {{ printf "/models/%s" $claim }}
  readOnly: true
{{- end }}
{{- if .hfToken.existingSecret }}
- name: hf-token
  mountPath: /var/run/secrets/sluice/hf-token
  readOnly: true
{{- end }}
{{- end -}}

{{- define "sluice.model.sourceVolumes" -}}
- name: tmp
  emptyDir: {}
- name: cache
{{- $claim := include "sluice.model.cacheClaim" . }}
{{- if $claim }}
  persistentVolumeClaim:
    claimName: {{ $claim | quote }}
{{- else if .cache.sizeLimit }}
  emptyDir:
    sizeLimit: {{ .cache.sizeLimit }}
{{- else }}
  emptyDir: {}
{{- end }}
{{- range $index, $claim := .claims }}
- name: {{ eq $index 0 | ternary "source" (printf "source-%d" $index) }}
  persistentVolumeClaim:
    claimName: {{ $claim | quote }}
    readOnly: true
{{- end }}
{{- with .hfToken.existingSecret }}
- name: hf-token
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
    items:
      - key: {{ $.hfToken.key | quote }}
        path: token
{{- end }}
{{- end -}}

{{/* Resources, with this pod's share of the GPUs. */}}
{{- define "sluice.model.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if eq .device "cuda" -}}
{{- $limits := get $resources "limits" | default dict -}}
{{- if not (hasKey $limits .gpuResource) -}}
{{- $asked := get (get $resources "requests" | default dict) .gpuResource | default (include "sluice.model.gpus" . | int) -}}
{{- $limits = merge $limits (dict .gpuResource $asked) -}}
{{- end -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}
