{{/*
All enabled models by name, as JSON, each with all of its options: what the model says, else its
device, else all. What follows from them is added: key, fullname, kind (demo, hub, pvc, path), claim
(of a pvc:// source) and path (for messages).
*/}}
{{- define "sluice.models" -}}
{{- $models := dict -}}
{{- range $key, $given := .Values.models -}}
{{- if and $given (ne (toString $given.enabled) "false") -}}
{{- $device := $given.device | default "cpu" -}}
{{- $defaults := $.Values.modelDefaults -}}
{{- $ofDevice := get $defaults $device | default dict -}}
{{- $model := mergeOverwrite (deepCopy $defaults.all) (deepCopy $ofDevice) (deepCopy $given) -}}
{{- $_ := set $model "key" $key -}}
{{- $_ := set $model "path" (printf "models.%s" $key) -}}
{{- $_ := set $model "device" $device -}}
{{- $_ := set $model "fullname" (include "sluice.name" (list $ (printf "worker-%s" $key))) -}}
{{- $_ := set $model "kind" (include "sluice.model.kind" $model.source) -}}
{{- $_ := set $model "claim" (eq $model.kind "pvc" | ternary (splitList "/" $model.source | rest | rest | first) "") -}}
{{- include "sluice.model.check" $model -}}
{{- $_ := set $models $key $model -}}
{{- end -}}
{{- end -}}
{{- toJson $models -}}
{{- end -}}

{{- define "sluice.model.kind" -}}
{{- if eq . "demo" -}}demo
{{- else if hasPrefix "pvc://" . -}}pvc
{{- else if hasPrefix "/" . -}}path
{{- else -}}hub
{{- end -}}
{{- end -}}

{{/* What the schema cannot see: options that contradict each other. */}}
{{- define "sluice.model.check" -}}
{{- if and (gt (int .settings.tpSize) 1) (ne .device "cuda") -}}
{{- fail (printf "%s.settings.tpSize is %d: that needs device cuda" .path (int .settings.tpSize)) -}}
{{- end -}}
{{- if and (eq (toString .settings.engine) "hf") (eq .device "cuda") -}}
{{- fail (printf "%s.settings.engine is hf: that needs device cpu" .path) -}}
{{- end -}}
{{- if and (eq .cache.type "existingClaim") (not .cache.claimName) -}}
{{- fail (printf "%s.cache.claimName is empty: cache.type existingClaim needs the claim's name" .path) -}}
{{- end -}}
{{- if and (ne .cache.type "existingClaim") .cache.claimName -}}
{{- fail (printf "%s.cache.claimName is set, but cache.type is %s: set it to existingClaim" .path .cache.type) -}}
{{- end -}}
{{- if .download.enabled -}}
{{- if ne .kind "hub" -}}
{{- fail (printf "%s.download.enabled: the source %s is not downloaded; only a hub model is" .path .source) -}}
{{- end -}}
{{- if eq .cache.type "emptyDir" -}}
{{- fail (printf "%s.download.enabled: a Job cannot fill an emptyDir of another pod; set cache.type to pvc or existingClaim" .path) -}}
{{- end -}}
{{- end -}}
{{- with .autoscaling -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas is above maxReplicas" $.path) -}}
{{- end -}}
{{- if and (eq .type "keda") (not .keda.triggers) (not .keda.serverAddress) -}}
{{- fail (printf "%s.autoscaling.keda.serverAddress is empty: KEDA has to know which Prometheus to ask" $.path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Something if a claim of the model can be mounted by one node at a time. */}}
{{- define "sluice.model.oneNodeOnly" -}}
{{- $modes := list -}}
{{- if ne .cache.type "emptyDir" -}}
{{- $modes = append $modes .cache.accessModes -}}
{{- end -}}
{{- if .claim -}}
{{- $modes = append $modes .sourceAccessModes -}}
{{- end -}}
{{- range $modes -}}
{{- if not (or (has "ReadWriteMany" .) (has "ReadOnlyMany" .)) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* The most workers that there may be. */}}
{{- define "sluice.model.maxReplicas" -}}
{{- eq .autoscaling.type "none" | ternary .replicas .autoscaling.maxReplicas | int -}}
{{- end -}}

{{- define "sluice.model.strategy" -}}
{{- $one := le (include "sluice.model.maxReplicas" . | int) 1 -}}
{{- if .strategy -}}
{{- toYaml .strategy -}}
{{- else if and $one (or (eq .device "cuda") (include "sluice.model.oneNodeOnly" .)) -}}
type: Recreate
{{- else -}}
type: RollingUpdate
rollingUpdate:
  maxUnavailable: 0
  maxSurge: 1
{{- end -}}
{{- end -}}

{{- define "sluice.model.progressDeadline" -}}
{{- $bySource := dict "demo" 600 "pvc" 3600 "path" 3600 "hub" 86400 -}}
{{- .progressDeadlineSeconds | default (get $bySource .kind) | int -}}
{{- end -}}

{{/* The name of the claim that the cache is on; nothing for an emptyDir. */}}
{{- define "sluice.model.cacheClaim" -}}
{{- if eq .cache.type "pvc" -}}
{{- printf "%s-cache" .fullname -}}
{{- else if eq .cache.type "existingClaim" -}}
{{- .cache.claimName -}}
{{- end -}}
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
{{- $address := (index . 0).Values.bindAddress -}}
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
{{- include "sluice.settings" .settings }}
{{- end -}}
{{- end -}}

{{- define "sluice.model.sourceMounts" -}}
- name: tmp
  mountPath: /tmp
- name: cache
  mountPath: /cache
{{- with .claim }}
- name: source
  mountPath: {{ printf "/models/%s" . }}
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
{{- with .claim }}
- name: source
  persistentVolumeClaim:
    claimName: {{ . | quote }}
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

{{/* Resources, with as many GPUs as tensor parallelism needs. */}}
{{- define "sluice.model.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if eq .device "cuda" -}}
{{- $limits := get $resources "limits" | default dict -}}
{{- if not (hasKey $limits .gpuResource) -}}
{{- $limits = merge $limits (dict .gpuResource (.settings.tpSize | int)) -}}
{{- end -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}
