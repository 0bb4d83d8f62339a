{{/* The name of everything. 52: a StatefulSet puts a hash behind it into a label, which holds 63. */}}
{{- define "millstream.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What never changes while a release lives: selectors and volume claims may carry nothing else. */}}
{{- define "millstream.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "millstream.labels" -}}
{{ include "millstream.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Refuse what must not be guessed. The schema says what a value may look like, this says which must be there. */}}
{{- define "millstream.refuse" -}}
{{- if not (and .Values.image.repository .Values.image.tag) -}}
{{- fail "image.repository and image.tag are not both set: expected an image with millstream and your functions, for example --set image.repository=registry.example/shop,image.tag=v1. deploy/README.md shows how to build one." -}}
{{- end -}}
{{- if not .Values.apps -}}
{{- fail "apps is empty: expected at least one module:app of your image, for example --set 'apps={shop:app}'." -}}
{{- end -}}
{{- if and .Values.eventKeys.existingSecret .Values.insecureNoEventKey -}}
{{- fail "eventKeys.existingSecret and insecureNoEventKey are both set: expected one of them. Remove insecureNoEventKey to ask for the Secret's keys." -}}
{{- end -}}
{{- if not (or .Values.eventKeys.existingSecret .Values.insecureNoEventKey) -}}
{{- fail "eventKeys.existingSecret is not set: without event keys whoever reaches the port may send events. Name a Secret whose entry event-keys holds them, or accept that with --set insecureNoEventKey=true." -}}
{{- end -}}
{{- end -}}
