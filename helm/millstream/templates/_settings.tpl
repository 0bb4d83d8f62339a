{{/*
The settings that each process takes, by the names of `millstream config show`, without those that the chart decides. A test
holds the lists to the flags of the commands, and the schema to the lists.
*/}}
{{- define "millstream.takes" -}}
worker: [group, lanes, events_topic, group_protocol, session_timeout, client_id, replication_factor, min_insync, register,
  executors, public_url, history, trim_lag, accept_loss, retry_interval, schemas, endpoint_networks, environments, log_level]
api: [group, lanes, events_topic, group_protocol, session_timeout, client_id, replication_factor, min_insync, allowed_hosts,
  events_per_s, schemas, endpoint_networks, environments, sdk_urls, no_poll, log_level]
history: [group, lanes, events_topic, group_protocol, session_timeout, client_id, replication_factor, min_insync, history,
  allowed_hosts, events_per_s, schemas, log_level]
topics: [group, lanes, events_topic, group_protocol, session_timeout, client_id, replication_factor, min_insync, apis,
  accept_loss]
server: [lanes, group, executors, durability, schemas, retry_interval, allowed_hosts, public_url, events_per_s, history,
  trim_lag, accept_loss, endpoint_networks, environments, sdk_urls, no_poll, log_level]
{{- end -}}

{{/* The settings of a role as variables: the shared ones that it takes, and its own before them. */}}
{{- define "millstream.settings" -}}
{{- $all := deepCopy .root.Values.settings -}}
{{- range $name, $value := (index .root.Values .role).settings -}}
{{- $_ := set $all $name $value -}}
{{- end -}}
{{- if and (eq .role "topics") (not (hasKey $all "apis")) -}}
{{- /* Each api and history reads a partition of the replies; partitions are only ever added. */ -}}
{{- $api := .root.Values.api -}}
{{- $apis := ternary $api.autoscaling.maxReplicas $api.replicas $api.autoscaling.enabled -}}
{{- $_ := set $all "apis" (max 1 (add (int64 $apis) (int64 .root.Values.history.replicas))) -}}
{{- end -}}
{{- range $name := index (include "millstream.takes" . | fromYaml) .role }}
{{- if hasKey $all $name }}
- name: MILLSTREAM_{{ upper $name }}
  {{- $value := get $all $name }}
  {{- /* Numbers come as floats, and 1000000 would be written 1e+06. */}}
  value: {{ kindIs "float64" $value | ternary (int64 $value | toString) (toString $value) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* How to reach Kafka, as variables; the files are where millstream.volumes mounts them. */}}
{{- define "millstream.kafkaEnv" -}}
{{- $kafka := include "millstream.kafka" . | fromJson -}}
- name: MILLSTREAM_BROKERS
  value: {{ $kafka.brokers | quote }}
- name: MILLSTREAM_SECURITY_PROTOCOL
  value: {{ $kafka.securityProtocol | quote }}
{{- if $kafka.ca.existingSecret }}
- name: MILLSTREAM_CA_FILE
  value: /etc/millstream/kafka/ca.crt
{{- end }}
{{- if $kafka.certificate.existingSecret }}
- name: MILLSTREAM_CERT_FILE
  value: /etc/millstream/kafka/tls.crt
- name: MILLSTREAM_KEY_FILE
  value: /etc/millstream/kafka/tls.key
{{- end }}
{{- if $kafka.sasl.mechanism }}
- name: MILLSTREAM_SASL_MECHANISM
  value: {{ $kafka.sasl.mechanism | quote }}
- name: MILLSTREAM_SASL_USERNAME
  value: {{ $kafka.sasl.username | quote }}
- name: MILLSTREAM_SASL_PASSWORD_FILE
  value: /etc/millstream/kafka/password
{{- end }}
{{- end -}}

{{- define "millstream.registryEnv" -}}
{{- with .root.Values.registry -}}
- name: MILLSTREAM_REGISTRY
  value: {{ .url | quote }}
{{- if .username }}
- name: MILLSTREAM_REGISTRY_USER
  value: {{ .username | quote }}
- name: MILLSTREAM_REGISTRY_PASSWORD_FILE
  value: /etc/millstream/registry/password
{{- end }}
{{- if .ca.existingSecret }}
- name: MILLSTREAM_REGISTRY_CA
  value: /etc/millstream/registry/ca.crt
{{- end }}
{{- end -}}
{{- end -}}

{{/* An entry of a Secret as a variable. */}}
{{- define "millstream.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .key | quote }}
{{- end -}}

{{/* All variables of a role's container: the chart's, the settings', the user's. */}}
{{- define "millstream.env" -}}
{{- $values := .root.Values -}}
{{- $role := .role -}}
{{- if eq $role "worker" }}
- name: MILLSTREAM_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: MILLSTREAM_GRACE
  value: {{ printf "%ds" (int64 $values.worker.graceSeconds) | quote }}
# Where functions send events to through their app.
- name: MILLSTREAM_URL
  value: {{ printf "http://%s-api:%d" (include "millstream.fullname" .root) (int64 $values.api.service.port) | quote }}
{{- end }}
{{- if has $role (list "api" "history") }}
# While its address is taken out of the Service it answers on, and ends each connection with its next answer.
- name: MILLSTREAM_SHUTDOWN_DELAY
  value: {{ printf "%ds" (int64 (index $values $role).shutdownDelaySeconds) | quote }}
{{- end }}
{{- if ne $role "server" }}
{{ include "millstream.kafkaEnv" . }}
{{- end }}
{{- if and $values.registry.url (has $role (list "worker" "api" "server")) }}
{{ include "millstream.registryEnv" . }}
{{- end }}
{{- if and $values.eventKeys.existingSecret (has $role (list "api" "history" "server")) }}
{{ include "millstream.secretEnv" (dict "name" "MILLSTREAM_EVENT_KEYS" "secret" $values.eventKeys.existingSecret "key" $values.eventKeys.key) }}
{{- end }}
{{- if and $values.eventKeys.sendingKey (has $role (list "worker" "server")) }}
{{ include "millstream.secretEnv" (dict "name" "MILLSTREAM_EVENT_KEY" "secret" $values.eventKeys.existingSecret "key" $values.eventKeys.sendingKey) }}
{{- end }}
{{- if and $values.signingKey.existingSecret (has $role (list "worker" "api" "server")) }}
{{- $secret := $values.signingKey.existingSecret }}
{{ include "millstream.secretEnv" (dict "name" "MILLSTREAM_SIGNING_KEY" "secret" $secret "key" $values.signingKey.key) }}
{{- if $values.signingKey.fallbackKey }}
{{ include "millstream.secretEnv" (dict "name" "MILLSTREAM_SIGNING_KEY_FALLBACK" "secret" $secret "key" $values.signingKey.fallbackKey) }}
{{- end }}
{{- end }}
{{- include "millstream.settings" . }}
{{- with (index $values $role).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
