{{/* Where a role reads and writes: Secrets and functions read-only, /tmp and, where it has one, /data for itself. */}}

{{- define "millstream.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if has .role (list "worker" "history" "server") }}
- name: data
  mountPath: /data
{{- end }}
{{- if and (ne .role "topics") (include "millstream.functions" .root) }}
- name: functions
  mountPath: /app
  readOnly: true
{{- end }}
{{- if include "millstream.kafkaSources" . | trim }}
- name: kafka
  mountPath: /etc/millstream/kafka
  readOnly: true
{{- end }}
{{- if include "millstream.registrySources" . | trim }}
- name: registry
  mountPath: /etc/millstream/registry
  readOnly: true
{{- end }}
{{- with (index .root.Values .role).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Without the volume of a claim: that comes from the StatefulSet's template. */}}
{{- define "millstream.volumes" -}}
{{- $persistence := (index .root.Values .role).persistence | default dict -}}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- if and (has .role (list "worker" "history")) (not $persistence.enabled) }}
- name: data
  emptyDir:
    sizeLimit: {{ $persistence.size }}
{{- end }}
{{- if ne .role "topics" }}
{{- with include "millstream.functions" .root }}
- name: functions
  configMap:
    name: {{ . | quote }}
    {{- with $.root.Values.functions.files }}
    items:
      {{- range $path := keys . | sortAlpha }}
      - key: {{ $path | replace "/" "." | quote }}
        path: {{ $path | quote }}
      {{- end }}
    {{- end }}
{{- end }}
{{- end }}
{{- with include "millstream.kafkaSources" . | trim }}
- name: kafka
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- with include "millstream.registrySources" . | trim }}
- name: registry
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- with (index .root.Values .role).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "millstream.kafkaSources" -}}
{{- if ne .role "server" -}}
{{- $kafka := include "millstream.kafka" . | fromJson -}}
{{- with $kafka.ca }}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret | quote }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- with $kafka.certificate }}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret | quote }}
    items: [{key: {{ .certKey | quote }}, path: tls.crt}, {key: {{ .keyKey | quote }}, path: tls.key}]
{{- end }}
{{- end }}
{{- with $kafka.sasl }}
{{- if .mechanism }}
- secret:
    name: {{ .existingSecret | quote }}
    items: [{key: {{ .key | quote }}, path: password}]
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "millstream.registrySources" -}}
{{- with .root.Values.registry -}}
{{- if and .url (has $.role (list "worker" "api" "server")) -}}
{{- if .username }}
- secret:
    name: {{ .existingSecret | quote }}
    items: [{key: {{ .key | quote }}, path: password}]
{{- end }}
{{- if .ca.existingSecret }}
- secret:
    name: {{ .ca.existingSecret | quote }}
    items: [{key: {{ .ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The claims of a StatefulSet. They carry nothing that changes with a version: Kubernetes refuses that. */}}
{{- define "millstream.claims" -}}
{{- with (index .root.Values .role).persistence -}}
- metadata:
    name: data
    labels:
      {{- include "millstream.selector" $ | nindent 6 }}
  spec:
    accessModes: [{{ .accessMode }}]
    {{- with .storageClass }}
    storageClassName: {{ . | quote }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
{{- end -}}
{{- end -}}
