{{/* The config of the gateway: the user's, and what the chart decides. Empty for the demo. */}}
{{- define "sluicegate.config" -}}
{{- $user := .Values.config -}}
{{- if kindIs "string" $user -}}
  {{- $user = fromYaml $user -}}
  {{- with $user.Error }}{{ fail (printf "config is not valid YAML: %s" .) }}{{ end -}}
{{- end -}}
{{- if $user -}}
  {{- range $key, $instead := dict "listen" "bindAddress and ports.http" "admin_listen" "bindAddress and ports.admin" "drain" "drainSeconds" "tls" "tls.existingSecret" -}}
    {{- if hasKey $user $key }}{{ fail (printf "config.%s: the chart sets it; set the value %s instead" $key $instead) }}{{ end -}}
  {{- end -}}
  {{- if not (or $user.keys $user.open) -}}
    {{ fail "config.keys: without keys everyone could use your upstreams. Add a key (`sluicegate keys new`), or set config.open to true" }}
  {{- end -}}
  {{- range $user.keys -}}
    {{- if not (kindIs "string" .sha256) }}{{ fail (printf "config.keys: put the sha256 of the key %v in quotes; YAML reads it as a number" .name) }}{{ end -}}
  {{- end -}}
  {{- $own := dict
      "listen" (printf "%s:%d" .Values.bindAddress (int .Values.ports.http))
      "admin_listen" (printf "%s:%d" .Values.bindAddress (int .Values.ports.admin))
      "drain" (printf "%ds" (int .Values.drainSeconds)) -}}
  {{- if .Values.tls.existingSecret -}}
    {{- $_ := set $own "tls" (dict "cert" "/run/secrets/tls/tls.crt" "key" "/run/secrets/tls/tls.key") -}}
  {{- end -}}
  {{- if .Values.valkey.enabled -}}
    {{- if $user.state }}{{ fail "config.state and valkey.enabled: choose one server for the shared state" }}{{ end -}}
    {{- $_ := set $own "state" (printf "redis://:${file:/run/secrets/sluicegate/%s}@%s-valkey:6379/0" .Values.valkey.passwordKey (include "sluicegate.fullname" .)) -}}
  {{- end -}}
  {{- /* What `resources` is made for. */ -}}
  {{- $limits := mergeOverwrite (dict "streams" 1000) (default dict $user.limits) -}}
  {{- $text := toYaml (mergeOverwrite (deepCopy $user) $own (dict "limits" $limits)) -}}
  {{- include "sluicegate.checkReferences" (dict "root" . "text" $text) -}}
  {{- $text -}}
{{- end -}}
{{- end -}}

{{/* Refuses a reference that the container could not resolve: the pods would not start. */}}
{{- define "sluicegate.checkReferences" -}}
{{- $values := .root.Values -}}
{{- $set := list -}}
{{- range $values.extraEnv }}{{ $set = append $set .name }}{{ end -}}
{{- if not (or (and $values.secretAsEnv $values.existingSecret) $values.extraEnvFrom) -}}
  {{- /* `$$` is a dollar sign, so what follows it is no reference. */ -}}
  {{- range regexFindAll "\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}" (.text | replace "$$" "") -1 -}}
    {{- $name := . | trimPrefix "${" | trimSuffix "}" -}}
    {{- if not (has $name $set) -}}
      {{ fail (printf "config refers to ${%s}, and the container has no such variable. Write ${file:/run/secrets/sluicegate/%s} for that entry of existingSecret, or set secretAsEnv, extraEnv or extraEnvFrom" $name $name) }}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and (contains "${file:/run/secrets/sluicegate/" .text) (not $values.existingSecret) -}}
  {{ fail "config refers to files in /run/secrets/sluicegate: set existingSecret to the name of the Secret that has them" }}
{{- end -}}
{{- end -}}

{{/* The gateway's command line. */}}
{{- define "sluicegate.args" -}}
{{- if .Values.config -}}
- serve
- --config=/etc/sluicegate/sluicegate.yaml
{{- else -}}
- demo
- --listen={{ .Values.bindAddress }}:{{ .Values.ports.http }}
- --admin-listen={{ .Values.bindAddress }}:{{ .Values.ports.admin }}
{{- end -}}
{{- end -}}
