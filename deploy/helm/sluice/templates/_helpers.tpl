{{/* Names. Pods get 16 characters more than their Deployment, and a name of 63 is the longest. */}}

{{- define "sluice.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- if not (regexMatch "^[a-z][-a-z0-9]*$" $full) -}}
{{- fail (printf "the names of Services begin with a letter and have no dots, and %s would be part of them: set fullnameOverride" $full) -}}
{{- end -}}
{{- $full | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of a part. Takes (list root suffix). One that is too long ends in a hash of itself. */}}
{{- define "sluice.name" -}}
{{- $name := printf "%s-%s" (include "sluice.fullname" (index . 0)) (index . 1) -}}
{{- if gt (len $name) 47 -}}
{{- printf "%s-%s" ($name | trunc 38 | trimSuffix "-") ($name | sha256sum | trunc 8) -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{/*
Labels. What selects is made of nothing that a value can change, for selectors are immutable. All of
these take (dict "root" . "component" "gateway" "model" ""), and "extra" for more labels.
*/}}

{{- define "sluice.selectorLabels" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- with .model }}
sluice/model: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "sluice.podLabels" -}}
{{- $own := include "sluice.selectorLabels" . | fromYaml -}}
{{- toYaml (merge $own (deepCopy (.extra | default dict)) (deepCopy .root.Values.commonLabels)) -}}
{{- end -}}

{{- define "sluice.labels" -}}
{{- $own := include "sluice.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "sluice" -}}
{{- toYaml (merge $own (deepCopy (.extra | default dict)) (deepCopy .root.Values.commonLabels)) -}}
{{- end -}}

{{/* Pods. */}}

{{/* An image's reference. Takes (list root image). */}}
{{- define "sluice.image" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
{{- if .digest -}}
{{- printf "%s@%s" (required "image.repository is empty" .repository) .digest -}}
{{- else -}}
{{- printf "%s:%s" (required "image.repository is empty" .repository) (.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A number without an exponent, anything else as it is. */}}
{{- define "sluice.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* A map of settings as environment variables: batchMax is BATCH_MAX. What is empty is left out. */}}
{{- define "sluice.settings" -}}
{{- range $key, $value := . }}
{{- if not (has $value (list nil "")) }}
- name: {{ snakecase $key | upper }}
  value: {{ include "sluice.text" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
extraEnv, but for what the chart sets itself (the same name twice is refused by the API server) and
for tokens in plain sight. Takes (list variables path-of-the-value the-chart's-own).
*/}}
{{- define "sluice.extraEnv" -}}
{{- $path := index . 1 -}}
{{- $own := index . 2 -}}
{{- $seen := list -}}
{{- range index . 0 }}
{{- if has .name $seen }}
{{- fail (printf "%s: %s is there twice" $path .name) }}
{{- end }}
{{- $seen = append $seen .name }}
{{- if contains (printf "- name: %s\n" .name) $own }}
{{- fail (printf "%s: the chart sets %s itself; use the value that stands for it" $path .name) }}
{{- end }}
{{- if and .value (has .name (list "HF_TOKEN" "HUGGING_FACE_HUB_TOKEN")) }}
{{- fail (printf "%s: %s stands in plain sight; put the token into a Secret and name it in hfToken.existingSecret" $path .name) }}
{{- end }}
{{- end }}
{{- with index . 0 }}
{{- toYaml . }}
{{- end }}
{{- end -}}

{{/*
How a service logs, and where its traces go, as environment variables. Takes (list root service-name).
What stands for the pod comes first: variables are put together of those before them.
*/}}
{{- define "sluice.telemetry" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
- name: LOG_FORMAT
  value: {{ $root.Values.logFormat }}
{{- with $root.Values.tracing }}
{{- if .endpoint }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- $attributes := list "k8s.pod.name=$(POD_NAME)" "k8s.namespace.name=$(POD_NAMESPACE)" }}
{{- range $key, $value := .resourceAttributes }}
{{- $attributes = append $attributes (printf "%s=%s" $key ($value | urlquery | replace "+" "%20")) }}
{{- end }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ join "," $attributes | quote }}
- name: OTEL_SERVICE_NAME
  value: {{ $name }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .protocol | quote }}
{{- with .sampler }}
- name: OTEL_TRACES_SAMPLER
  value: {{ . }}
{{- end }}
{{- with .samplerArg }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What gateways' and workers' pods have in common. Takes (dict root component model options). */}}
{{- define "sluice.podSpec" -}}
{{- $values := .root.Values -}}
{{- $selector := include "sluice.selectorLabels" . | fromYaml -}}
enableServiceLinks: false
automountServiceAccountToken: false
{{- with $values.serviceAccountName }}
serviceAccountName: {{ . | quote }}
{{- end }}
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- mergeOverwrite (deepCopy ($values.podSecurityContext | default dict)) .options.podSecurityContext | toYaml | nindent 2 }}
{{- with .options.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .options.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .options.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .options.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .options.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .options.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
  - {{- hasKey . "labelSelector" | ternary . (merge (deepCopy .) (dict "labelSelector" (dict "matchLabels" $selector))) | toYaml | nindent 4 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A container's security context. Takes (list root options). */}}
{{- define "sluice.securityContext" -}}
{{- mergeOverwrite (deepCopy ((index . 0).Values.securityContext | default dict)) (index . 1).securityContext | toYaml -}}
{{- end -}}

{{/* Kubernetes' version: as told, or the cluster's. */}}
{{- define "sluice.kubeVersion" -}}
{{- .Values.kubeVersion | default .Capabilities.KubeVersion.Version -}}
{{- end -}}

{{/*
Waiting before SIGTERM. Takes (list root seconds). The kubelet sleeps by itself from 1.30 on; before,
python does, for there may be no shell.
*/}}
{{- define "sluice.preStop" -}}
{{- $seconds := index . 1 | int -}}
{{- if $seconds -}}
lifecycle:
  preStop:
{{- if semverCompare ">=1.30.0-0" (include "sluice.kubeVersion" (index . 0)) }}
    sleep:
      seconds: {{ $seconds }}
{{- else }}
    exec:
      command: [python3, -c, "import time; time.sleep({{ $seconds }})"]
{{- end }}
{{- end -}}
{{- end -}}

{{/* A path of the services' probes, which all have the same deadline. */}}
{{- define "sluice.httpProbe" -}}
httpGet:
  path: {{ . }}
  port: http
timeoutSeconds: 5
{{- end -}}

{{- define "sluice.grpcProbe" -}}
grpc:
  port: 50051
  service: {{ . | quote }}
timeoutSeconds: 5
{{- end -}}

{{/* The gateway. */}}

{{- define "sluice.gateway.name" -}}
{{- include "sluice.name" (list . "gateway") -}}
{{- end -}}

{{/* All workers, by the names of their headless Services. */}}
{{- define "sluice.workerAddresses" -}}
{{- $addresses := list -}}
{{- range $model := include "sluice.models" . | fromJson -}}
{{- $addresses = append $addresses (printf "dns:///%s:50051" $model.fullname) -}}
{{- end -}}
{{- $addresses = concat $addresses .Values.gateway.extraWorkerAddresses -}}
{{- if not $addresses -}}
{{- fail "models: there is none that is enabled, and gateway.extraWorkerAddresses is empty: a gateway needs a worker" -}}
{{- end -}}
{{- join "," $addresses -}}
{{- end -}}
