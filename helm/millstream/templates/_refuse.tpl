{{/*
Refuse what must not be guessed and what does not fit together, with a sentence each. The schema says what one value may look
like; this says which must be there, and which may be there together.
*/}}
{{- define "millstream.refuse" -}}
{{- include "millstream.refuseNull" (dict "values" .Values "defaults" (.Files.Get "files/values.yaml" | fromYaml) "place" "") -}}
{{- include "millstream.refuseName" . -}}
{{- include "millstream.refuseImage" . -}}
{{- include "millstream.refuseNoApps" . -}}
{{- include "millstream.refuseFunctions" . -}}
{{- include "millstream.refuseKeys" . -}}
{{- include "millstream.refuseVariables" . -}}
{{- include "millstream.refuseLabels" . -}}
{{- include "millstream.refuseOtherMode" . -}}
{{- include "millstream.refuseSettings" . -}}
{{- include "millstream.refuseAround" . -}}
{{- if eq .Values.mode "group" -}}
{{- include "millstream.refuseGroup" . -}}
{{- range $role := list "worker" "api" "history" "topics" -}}
{{- include "millstream.refuseKafka" (dict "root" $ "role" $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Helm takes a section away whose value is null. What is a section by default is one here; resources, spread and labels may be
taken away.
*/}}
{{- define "millstream.refuseNull" -}}
{{- $given := . -}}
{{- range $name, $default := .defaults -}}
{{- if and (kindIs "map" $default) (or $default (eq $name "settings")) (not (has $name (list "resources" "spread" "labels"))) -}}
{{- $place := empty $given.place | ternary $name (printf "%s.%s" $given.place $name) -}}
{{- if not (kindIs "map" (get $given.values $name)) -}}
{{- fail (printf "%s is null: expected a section. Leave it out for its defaults, which values.yaml shows." $place) -}}
{{- end -}}
{{- include "millstream.refuseNull" (dict "values" (get $given.values $name) "defaults" $default "place" $place) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Helm lets a release be called shop.v1 or 2nd-shop; the name of a Service may have no dot and begins with a letter. */}}
{{- define "millstream.refuseName" -}}
{{- $name := include "millstream.fullname" . -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) -}}
{{- fail (printf "the release would be called %s, and the name of a Service begins with a letter and has no dot: expected another name for the release, or one for its parts, for example --set fullnameOverride=shop." $name) -}}
{{- end -}}
{{- end -}}

{{- define "millstream.refuseImage" -}}
{{- if not (and .Values.image.repository (or .Values.image.tag .Values.image.digest)) -}}
{{- fail "image.repository and image.tag (or image.digest) are not both set: expected an image with millstream and your functions, for example --set image.repository=registry.example/shop,image.tag=v1. deploy/README.md shows how to build one." -}}
{{- end -}}
{{- range .Values.apps -}}
{{- if or (contains ".py:" .) (not (regexMatch "^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$" .)) -}}
{{- fail (printf "apps has %s: expected module:app, with dots between folders and no .py, for example shop:app or examples.blog:app." (quote .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Without functions of the image all are those of apps over HTTP, which have to be let in. */}}
{{- define "millstream.refuseNoApps" -}}
{{- if not .Values.apps -}}
{{- $door := index .Values (include "millstream.door" .) -}}
{{- $urls := or .Values.settings.sdk_urls (get ($door.settings | default dict) "sdk_urls") -}}
{{- if not (or .Values.signingKey.existingSecret $urls) -}}
{{- fail "apps is empty: expected at least one module:app of your image, for example --set 'apps={shop:app}'; or, where all functions are in apps over HTTP, signingKey.existingSecret (or settings.sdk_urls), without which none can register." -}}
{{- end -}}
{{- if or .Values.functions.files .Values.functions.configMap -}}
{{- fail "functions has files, and apps is empty: expected what of them to serve, for example --set 'apps={shop:app}'." -}}
{{- end -}}
{{- range $section, $settings := dict "settings" .Values.settings "worker.settings" .Values.worker.settings -}}
{{- range $name := list "executors" "register" -}}
{{- if and (eq $.Values.mode "group") (hasKey ($settings | default dict) $name) -}}
{{- fail (printf "%s.%s is set, and apps is empty: expected it only where workers run functions of your image." $section $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "millstream.refuseFunctions" -}}
{{- if and .Values.functions.files .Values.functions.configMap -}}
{{- fail "functions.files and functions.configMap are both set: expected one of them, since both are mounted at /app." -}}
{{- end -}}
{{- $keys := dict -}}
{{- $size := 0 -}}
{{- range $path, $text := .Values.functions.files -}}
{{- if not (regexMatch "^([A-Za-z0-9_][A-Za-z0-9_-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*$" $path) -}}
{{- fail (printf "functions.files has %s: expected a file's name, with / between folders, for example shop.py or examples/blog.py." (quote $path)) -}}
{{- end -}}
{{- $key := $path | replace "/" "." -}}
{{- if hasKey $keys $key -}}
{{- fail (printf "functions.files has %s and %s, which are one key of a ConfigMap: rename one." (get $keys $key) $path) -}}
{{- end -}}
{{- $_ := set $keys $key $path -}}
{{- $size = add $size (len $text) -}}
{{- end -}}
{{- if gt $size 1048576 -}}
{{- fail (printf "functions.files has %d bytes, and a ConfigMap holds 1048576: expected an image of your own, as deploy/README.md shows." $size) -}}
{{- end -}}
{{- end -}}

{{- define "millstream.refuseKeys" -}}
{{- if and .Values.eventKeys.existingSecret .Values.insecureNoEventKey -}}
{{- fail "eventKeys.existingSecret and insecureNoEventKey are both set: expected one of them. Remove insecureNoEventKey to ask for the Secret's keys." -}}
{{- end -}}
{{- if not (or .Values.eventKeys.existingSecret .Values.insecureNoEventKey) -}}
{{- fail "eventKeys.existingSecret is not set: without event keys whoever reaches the port may send events. Name a Secret whose entry event-keys holds them, or accept that with --set insecureNoEventKey=true." -}}
{{- end -}}
{{- if and .Values.eventKeys.sendingKey (not .Values.eventKeys.existingSecret) -}}
{{- fail "eventKeys.sendingKey is set, and eventKeys.existingSecret is not: it is an entry of that Secret." -}}
{{- end -}}
{{- if and .Values.signingKey.fallbackKey (not .Values.signingKey.existingSecret) -}}
{{- fail "signingKey.fallbackKey is set, and signingKey.existingSecret is not: it is an entry of that Secret." -}}
{{- end -}}
{{- end -}}

{{/* A variable of millstream's that is no setting would end the process; one that is would fight with the chart's own. */}}
{{- define "millstream.refuseVariables" -}}
{{- range $role := list "worker" "api" "history" "server" -}}
{{- range (index $.Values $role).extraEnv -}}
{{- if hasPrefix "MILLSTREAM_" .name -}}
{{- fail (printf "%s.extraEnv has %s: expected variables of your functions. Settings of millstream go into settings, the others have values of their own." $role .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Kubernetes refuses a workload whose selector its own pods do not match. */}}
{{- define "millstream.refuseLabels" -}}
{{- range $role := list "worker" "api" "history" "topics" "server" -}}
{{- range $label, $_ := (index $.Values $role).podLabels -}}
{{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component") -}}
{{- fail (printf "%s.podLabels has %s: expected labels of your own, since pods are found by this one." $role $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the other mode reads must be as values.yaml has it. */}}
{{- define "millstream.refuseOtherMode" -}}
{{- $defaults := .Files.Get "files/values.yaml" | fromYaml -}}
{{- $unread := eq .Values.mode "single" | ternary (list "kafka" "topics" "worker" "api" "history") (list "server") -}}
{{- range $section := $unread -}}
{{- $default := get $defaults $section -}}
{{- range $name, $value := index $.Values $section -}}
{{- if ne (toJson $value) (toJson (get $default $name)) -}}
{{- fail (printf "%s.%s is set, and mode is %s, which does not read it: set mode to %s, or remove it." $section $name $.Values.mode (eq $.Values.mode "single" | ternary "group" "single")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A setting that no process of this mode takes would do nothing. */}}
{{- define "millstream.refuseSettings" -}}
{{- $takes := include "millstream.takes" . | fromYaml -}}
{{- $known := list -}}
{{- range $role := eq .Values.mode "single" | ternary (list "server") (list "worker" "api" "history" "topics") -}}
{{- $known = concat $known (get $takes $role) -}}
{{- end -}}
{{- range $name, $_ := .Values.settings -}}
{{- if not (has $name $known) -}}
{{- fail (printf "settings.%s is set, and no process takes it in mode %s: expected one of %s." $name $.Values.mode ($known | uniq | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "millstream.refuseAround" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.enabled is true, and ingress.host is not set: expected the name that others reach it by." -}}
{{- end -}}
{{- with .Values.registry -}}
{{- if and (not .url) (or .username .existingSecret .ca.existingSecret) -}}
{{- fail "registry.url is not set, and other values of registry are: expected the registry's address, for example https://registry:8081." -}}
{{- end -}}
{{- if ne (empty .username) (empty .existingSecret) -}}
{{- fail "registry.username and registry.existingSecret go together: expected both, or neither." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "millstream.refuseGroup" -}}
{{- if not .Values.kafka.brokers -}}
{{- fail "kafka.brokers is not set: expected some brokers of your Kafka, for example --set 'kafka.brokers=kafka-0:9092\\,kafka-1:9092'. The chart brings none; for one server without Kafka say --set mode=single." -}}
{{- end -}}
{{- range splitList "," .Values.kafka.brokers -}}
{{- if not (regexMatch "^\\s*([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}\\s*$" .) -}}
{{- fail (printf "kafka.brokers has %s: expected host:port, several with commas, for example kafka-0:9092,kafka-1:9092." (quote .)) -}}
{{- end -}}
{{- end -}}
{{- if not .Values.settings.group -}}
{{- fail "settings.group is not set: expected the name of the group on Kafka, for example --set settings.group=shop. Its topics begin with it, and it is fixed from then on." -}}
{{- end -}}
{{- with .Values.worker.keda -}}
{{- $lanes := $.Values.settings.lanes | default 8 -}}
{{- if and .enabled (gt (int64 .maxReplicas) (int64 $lanes)) -}}
{{- fail (printf "worker.keda.maxReplicas is %d, and the group has %d lanes (settings.lanes): expected no more workers than lanes, since the others would have nothing to do." (int64 .maxReplicas) (int64 $lanes)) -}}
{{- end -}}
{{- if and .enabled (gt (int64 .minReplicas) (int64 .maxReplicas)) -}}
{{- fail (printf "worker.keda.minReplicas is %d: expected at most maxReplicas, which is %d." (int64 .minReplicas) (int64 .maxReplicas)) -}}
{{- end -}}
{{- if and .enabled (not .authentication) (ne $.Values.kafka.securityProtocol "plaintext") -}}
{{- fail (printf "worker.keda.authentication is not set, and the brokers speak %s: expected a TriggerAuthentication, by which KEDA may read the group's lag." $.Values.kafka.securityProtocol) -}}
{{- end -}}
{{- end -}}
{{- with .Values.api.autoscaling -}}
{{- if and .enabled (gt (int64 .minReplicas) (int64 .maxReplicas)) -}}
{{- fail (printf "api.autoscaling.minReplicas is %d: expected at most maxReplicas, which is %d." (int64 .minReplicas) (int64 .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What each role makes of kafka and its own kafka. */}}
{{- define "millstream.refuseKafka" -}}
{{- $kafka := include "millstream.kafka" . | fromJson -}}
{{- $protocol := $kafka.securityProtocol -}}
{{- $where := empty (index .root.Values .role).kafka | ternary "kafka" (printf "%s.kafka over kafka" .role) -}}
{{- with $kafka.sasl -}}
{{- if and (hasPrefix "sasl_" $protocol) (not (and .mechanism .username .existingSecret)) -}}
{{- fail (printf "%s: securityProtocol is %s, which needs sasl.mechanism, sasl.username and sasl.existingSecret, a Secret whose entry %s is the password." $where $protocol .key) -}}
{{- end -}}
{{- if and (not (hasPrefix "sasl_" $protocol)) (or .mechanism .username .existingSecret) -}}
{{- fail (printf "%s: sasl is set, and securityProtocol is %s, which asks nobody to log in: expected sasl_ssl." $where $protocol) -}}
{{- end -}}
{{- end -}}
{{- if and (not (hasSuffix "ssl" $protocol)) (or $kafka.ca.existingSecret $kafka.certificate.existingSecret) -}}
{{- fail (printf "%s: ca or certificate is set, and securityProtocol is %s, which encrypts nothing: expected ssl or sasl_ssl." $where $protocol) -}}
{{- end -}}
{{- end -}}
