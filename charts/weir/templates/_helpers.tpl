{{/* The prefix of all names: the release's, which says weir by itself or is told to. */}}
{{- define "weir.name" -}}
{{- if contains "weir" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-weir" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a Deployment selects its pods by: (list $ "operator"). Never changed: a selector is immutable. */}}
{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The labels of everything: (list $ "operator"). */}}
{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "weir-%s" (index . 0).Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image: (list $ "weir-operator" TAG). */}}
{{- define "weir.image" -}}
{{- $root := index . 0 -}}
{{- printf "%s/%s:%s" $root.Values.image.registry (index . 1) (index . 2 | default $root.Values.image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}

{{/* The feed's URL for sidecars in this cluster. */}}
{{- define "weir.feed" -}}
{{- printf "https://%s-feed.%s.svc:%v" (include "weir.name" .) .Release.Namespace .Values.feed.port -}}
{{- end -}}

{{/* What Pod Security's `restricted` asks of a pod. */}}
{{- define "weir.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* And of a container. */}}
{{- define "weir.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Pods on different zones and nodes, where there are some: (list $ "operator"). */}}
{{- define "weir.spread" -}}
{{- $here := . -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "weir.selector" $here | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Where a pod may run: (list $ "operator" .Values.operator). */}}
{{- define "weir.scheduling" -}}
{{- $values := index . 2 -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
  {{- include "weir.spread" (list (index . 0) (index . 1)) | trim | nindent 2 }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
