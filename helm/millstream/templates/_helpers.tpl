{{/*
Names, labels and small things. A template of a role calls these with (dict "root" $ "role" "worker"): Helm's templates have
one argument. "role" is the name of a section of values.yaml and of the label app.kubernetes.io/component.
*/}}

{{/* The name of everything. 44: a StatefulSet puts -history and a hash behind it into a label, which holds 63. */}}
{{- define "millstream.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 44 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 44 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of a role's resources. The server of single mode is the release itself. */}}
{{- define "millstream.name" -}}
{{- if eq .role "server" -}}
{{- include "millstream.fullname" .root -}}
{{- else -}}
{{- printf "%s-%s" (include "millstream.fullname" .root) .role -}}
{{- end -}}
{{- end -}}

{{/* The role that takes events and requests. */}}
{{- define "millstream.door" -}}
{{- eq .Values.mode "single" | ternary "server" "api" -}}
{{- end -}}

{{/* What never changes while a release lives: selectors and volume claims may carry nothing else. */}}
{{- define "millstream.release" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "millstream.selector" -}}
{{ include "millstream.release" .root }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "millstream.common" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "millstream.labels" -}}
{{ include "millstream.selector" . }}
{{ include "millstream.common" .root }}
{{- end -}}

{{/* Labels of what belongs to no role. */}}
{{- define "millstream.releaseLabels" -}}
{{ include "millstream.release" . }}
{{ include "millstream.common" . }}
{{- end -}}

{{- define "millstream.image" -}}
{{- with .Values.image -}}
{{- .repository -}}
{{- if .tag -}}:{{ .tag }}{{- end -}}
{{- if .digest -}}@{{ .digest }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The functions that are mounted at /app: the ConfigMap's name, or "". */}}
{{- define "millstream.functions" -}}
{{- if .Values.functions.files -}}
{{- include "millstream.fullname" . }}-functions
{{- else -}}
{{- .Values.functions.configMap -}}
{{- end -}}
{{- end -}}

{{/* How to reach Kafka as this role: kafka, with what the role's own kafka replaces. As JSON. */}}
{{- define "millstream.kafka" -}}
{{- $kafka := deepCopy .root.Values.kafka -}}
{{- /* Not Helm's merge, which takes "", 0 and false for nothing. */ -}}
{{- range $name, $value := (index .root.Values .role).kafka -}}
{{- if kindIs "map" $value -}}
{{- range $key, $text := $value -}}
{{- $_ := set (get $kafka $name) $key $text -}}
{{- end -}}
{{- else -}}
{{- $_ := set $kafka $name $value -}}
{{- end -}}
{{- end -}}
{{- toJson $kafka -}}
{{- end -}}

{{/* The port that a role listens on: its probes and metrics are there, and but for a worker the HTTP API. */}}
{{- define "millstream.port" -}}
{{- get (dict "worker" "9464" "api" "8288" "history" "8290" "server" "8288") .role -}}
{{- end -}}

{{/* How that port is called. */}}
{{- define "millstream.portName" -}}
{{- eq .role "worker" | ternary "probes" "http" -}}
{{- end -}}
