{{/*
What the pods of all roles have in common. Each is restricted as Kubernetes' "restricted" policy asks, and writes to its
volumes only.
*/}}

{{- define "millstream.podLabels" -}}
{{ include "millstream.labels" . }}
{{- with (index .root.Values .role).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A change of the mounted functions begins the pods anew. */}}
{{- define "millstream.podAnnotations" -}}
{{- if and .root.Values.functions.files (ne .role "topics") }}
checksum/functions: {{ toJson .root.Values.functions.files | sha256sum }}
{{- end }}
{{- with (index .root.Values .role).podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "millstream.podSecurity" -}}
automountServiceAccountToken: false
# A Service named millstream would put MILLSTREAM_PORT=tcp://... into the pod, which millstream refuses.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.user }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  fsGroup: {{ int64 . }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with (index .root.Values .role).serviceAccountName }}
serviceAccountName: {{ . | quote }}
{{- end }}
{{- with (index .root.Values .role).priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "millstream.placement" -}}
{{- $role := index .root.Values .role -}}
{{- $spread := $role.spread | default dict -}}
{{- if or $spread.zone $spread.host }}
topologySpreadConstraints:
  {{- range $key, $how := dict "topology.kubernetes.io/zone" $spread.zone "kubernetes.io/hostname" $spread.host }}
  {{- if $how }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ $how }}
    labelSelector:
      matchLabels:
        {{- include "millstream.selector" $ | nindent 8 }}
  {{- end }}
  {{- end }}
{{- end }}
{{- with $role.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The container of a role, without its arguments: "args" are those. */}}
{{- define "millstream.container" -}}
{{- $role := index .root.Values .role -}}
- name: millstream
  image: {{ include "millstream.image" .root | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  # The image's entry point is millstream.
  args:
    {{- range .args }}
    - {{ . | quote }}
    {{- end }}
  {{- if and (ne .role "topics") (include "millstream.functions" .root) }}
  # Modules are looked for where a command is called.
  workingDir: /app
  {{- end }}
  {{- with include "millstream.env" . | trim }}
  env:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $role.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if ne .role "topics" }}
  ports:
    - name: {{ include "millstream.portName" . }}
      containerPort: {{ include "millstream.port" . }}
  {{- include "millstream.probes" . | nindent 2 }}
  {{- end }}
  {{- with $role.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
  volumeMounts:
    {{- include "millstream.mounts" . | trim | nindent 4 }}
{{- end -}}

{{- define "millstream.probes" -}}
startupProbe:
  httpGet:
    path: /livez
    port: {{ include "millstream.portName" . }}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: {{ div (int64 (index .root.Values .role).startupSeconds) 5 }}
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ include "millstream.portName" . }}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 3
# Patient: a function that computes on the loop for seconds is a fault to log, not one to kill for.
livenessProbe:
  httpGet:
    path: /livez
    port: {{ include "millstream.portName" . }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}
