{{/*
All enabled models by name, as JSON, each with all of its options: what the model says, else its
device, else all. What follows from them is added: key, fullname (of its Service and most else),
workload (the name of what makes its pods), grouped (whether that is a LeaderWorkerSet), engine, kind
(demo, hub, pvc, path), claims (of pvc:// sources) and path (for messages).
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
{{- $_ := set $model "claims" (include "sluice.model.sourceClaims" $model | fromJsonArray) -}}
{{- $_ := set $model "engine" ($model.settings.engine | default (get (dict "cuda" "vllm") $device) | default "hf") -}}
{{- $_ := set $model "grouped" (gt (int $model.nodes) 1) -}}
{{- /* How many pods a group has cannot be changed in every version of that kind: it is in the name. */}}
{{- $_ := set $model "workload" ($model.grouped | ternary (include "sluice.name" (list $ (printf "nodes%d-%s" (int $model.nodes) $key))) $model.fullname) -}}
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

{{/* The claims of pvc:// sources, the model's first, each once. */}}
{{- define "sluice.model.sourceClaims" -}}
{{- $claims := list -}}
{{- range concat (list .source) (values (.loraModules | default dict) | sortAlpha) -}}
{{- if eq (include "sluice.model.kind" .) "pvc" -}}
{{- $claims = append $claims (splitList "/" . | rest | rest | first) -}}
{{- end -}}
{{- end -}}
{{- $claims | uniq | toJson -}}
{{- end -}}

{{/* Something if a claim of the model can be mounted by one node at a time. */}}
{{- define "sluice.model.oneNodeOnly" -}}
{{- $modes := list -}}
{{- if ne .cache.type "emptyDir" -}}
{{- $modes = append $modes .cache.accessModes -}}
{{- end -}}
{{- if .claims -}}
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

{{/*
The name of the claim that the cache is on; nothing for an emptyDir. Class and access modes of a claim
cannot be changed: others than the usual ones are in its name, so that a change makes another claim.
*/}}
{{- define "sluice.model.cacheClaim" -}}
{{- if eq .cache.type "pvc" -}}
{{- $fixed := printf "%s %s" (.cache.storageClassName | default "") (.cache.accessModes | sortAlpha | join ",") -}}
{{- printf "%s-cache%s" .fullname (eq $fixed " ReadWriteOnce" | ternary "" (printf "-%s" ($fixed | sha256sum | trunc 8))) -}}
{{- else if eq .cache.type "existingClaim" -}}
{{- .cache.claimName -}}
{{- end -}}
{{- end -}}

{{/* GPUs of one pod: tensor parallelism times pipeline parallelism, shared by the nodes. */}}
{{- define "sluice.model.gpus" -}}
{{- div (mul (int .settings.tpSize) (int .settings.ppSize)) (int .nodes) -}}
{{- end -}}

{{/* What makes the pods, as autoscalers name it. */}}
{{- define "sluice.model.scaleTarget" -}}
apiVersion: {{ .grouped | ternary "leaderworkerset.x-k8s.io/v1" "apps/v1" }}
kind: {{ .grouped | ternary "LeaderWorkerSet" "Deployment" }}
name: {{ .workload }}
{{- end -}}

{{/* Selects all pods of a model's workers, also the followers of a group. Takes (dict root model options). */}}
{{- define "sluice.model.podSelector" -}}
{{- $labels := include "sluice.selectorLabels" (merge (dict "component" "worker") .) | fromYaml -}}
{{- if .options.grouped -}}
{{- $_ := unset $labels "app.kubernetes.io/component" -}}
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values: [worker, follower]
{{ end -}}
matchLabels: {{- toYaml $labels | nindent 2 }}
{{- end -}}
