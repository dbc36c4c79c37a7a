{{/* Who the operator is. */}}
{{- define "weir.operator" -}}
- kind: ServiceAccount
  name: {{ include "weir.name" . }}-operator
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* What belongs to no namespace. */}}
{{- define "weir.rules.cluster" -}}
# Whose token a sidecar shows.
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
# A namespace that is being deleted takes its streams with it: nothing else does.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
# Zone and region of a streamer are its node's.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
{{- if .Values.webhook.enabled }}
# The authority of the webhook's certificate is written there.
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations]
  resourceNames: [{{ include "weir.name" . }}-webhook]
  verbs: [get, patch]
{{- end }}
{{- end -}}

{{/* In each namespace that it looks after. */}}
{{- define "weir.rules.media" -}}
# What users want: read, never written.
- apiGroups: [weir.dev]
  resources: [streams]
  verbs: [list, watch]
# A sidecar whose Streamer nobody declared registers it; that goes with its pod, where nobody brings one of that name back.
- apiGroups: [weir.dev]
  resources: [streamers]
  verbs: [list, watch, create, delete]
# The reports.
- apiGroups: [weir.dev]
  resources: [streams/status, streamers/status]
  verbs: [patch]
# The truth about who captures what; get is a quorum read, after a write without an answer.
- apiGroups: [weir.dev]
  resources: [placements]
  verbs: [get, list, watch, create, patch]
# Passwords of sources, and hashes of tokens. Only Secrets of types weir.dev/credentials and weir.dev/streamer-token are asked for;
# RBAC cannot tell types apart.
- apiGroups: [""]
  resources: [secrets]
  verbs: [list, watch]
# A Streamer that registers is what its Pod says. Those with a sidecar are seen to be deleted and to end; RBAC cannot tell labels apart.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# What happened, for kubectl describe.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# The authorities of the feed's certificate, which sidecars mount. Create cannot be bound to a name.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
# As above, once it is there.
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [weir-ca]
  verbs: [list, watch, patch]
{{- end -}}

{{/* In its own namespace. */}}
{{- define "weir.rules.own" -}}
# Who leads. Create cannot be bound to a name.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
# As above, once it is there.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [weir-operator]
  verbs: [get, update]
# The keys of grants, and the certificates that Weir makes for itself. Create cannot be bound to a name.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
# As above, once they are there: keys are never changed.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [weir-grants]
  verbs: [get]
# As above: certificates are renewed.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [weir-certificates, weir-webhook-tls]
  verbs: [get, update]
{{- end -}}
