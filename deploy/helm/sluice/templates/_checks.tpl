{{/* What the schema cannot see: options of a model that contradict each other. */}}
{{- define "sluice.model.check" -}}
{{- if and (eq .engine "hf") (eq .device "cuda") -}}
{{- fail (printf "%s.settings.engine is hf: that needs device cpu" .path) -}}
{{- end -}}
{{- include "sluice.model.checkEngine" . -}}
{{- if .grouped -}}
{{- include "sluice.model.checkNodes" . -}}
{{- end -}}
{{- include "sluice.model.checkSharedMemory" . -}}
{{- include "sluice.model.checkFiles" . -}}
{{- with .autoscaling -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas is above maxReplicas" $.path) -}}
{{- end -}}
{{- if and (eq .type "keda") (not .keda.triggers) (not .keda.serverAddress) -}}
{{- fail (printf "%s.autoscaling.keda.serverAddress is empty: KEDA has to know which Prometheus to ask" $.path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What only vLLM can do. */}}
{{- define "sluice.model.checkEngine" -}}
{{- if ne .engine "vllm" -}}
{{- $asked := list -}}
{{- range $name := list "tpSize" "ppSize" -}}
{{- if gt (get $.settings $name | int) 1 -}}
{{- $asked = append $asked (printf "settings.%s" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "quantization" "vllmArgs" -}}
{{- if get $.settings $name -}}
{{- $asked = append $asked (printf "settings.%s" $name) -}}
{{- end -}}
{{- end -}}
{{- if .grouped -}}
{{- $asked = append $asked "nodes" -}}
{{- end -}}
{{- if and .loraModules (eq .engine "hf") -}}
{{- $asked = append $asked "loraModules" -}}
{{- end -}}
{{- with $asked -}}
{{- fail (printf "%s.%s: the engine %s cannot do that; it needs device cuda, whose engine is vllm" $.path (first .) $.engine) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sluice.model.checkNodes" -}}
{{- $nodes := int .nodes -}}
{{- $gpus := mul (int .settings.tpSize) (int .settings.ppSize) | int -}}
{{- if mod $gpus $nodes -}}
{{- fail (printf "%s.nodes is %d: settings.tpSize x settings.ppSize is %d GPUs, which so many nodes cannot share evenly" .path $nodes $gpus) -}}
{{- end -}}
{{- if include "sluice.model.oneNodeOnly" . -}}
{{- fail (printf "%s.nodes is %d: a claim that one node can mount will not do; cache.accessModes needs ReadWriteMany, sourceAccessModes that or ReadOnlyMany" .path $nodes) -}}
{{- end -}}
{{- if or (eq (toString .strategy.type) "Recreate") (hasKey .strategy "rollingUpdate") -}}
{{- fail (printf "%s.strategy is one of a Deployment: with nodes above 1 it is a LeaderWorkerSet's rolloutStrategy" .path) -}}
{{- end -}}
{{- end -}}

{{/* Processes of one model on several GPUs talk through /dev/shm. */}}
{{- define "sluice.model.checkSharedMemory" -}}
{{- $mounted := "" -}}
{{- range .extraVolumeMounts -}}
{{- if eq (toString .mountPath) "/dev/shm" -}}
{{- $mounted = "extraVolumeMounts" -}}
{{- end -}}
{{- end -}}
{{- if and $mounted .shm.size -}}
{{- fail (printf "%s.extraVolumeMounts has /dev/shm: set shm.size to an empty text, or leave the mount out" .path) -}}
{{- end -}}
{{- if and (eq .device "cuda") (gt (include "sluice.model.gpus" . | int) 1) (not .shm.size) (not $mounted) -}}
{{- fail (printf "%s.shm.size is empty: several GPUs need shared memory, such as 2Gi" .path) -}}
{{- end -}}
{{- end -}}

{{- define "sluice.model.checkFiles" -}}
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
{{- end -}}
