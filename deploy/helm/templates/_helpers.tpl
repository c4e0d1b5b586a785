{{- /* Helpers have the prefix "responder.", because charts that depend on this one share the names. */ -}}

{{- define "responder.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.image.repository }}{{ hasPrefix "sha256:" $tag | ternary "@" ":" }}{{ $tag }}
{{- end }}

{{- /* Name, namespace and labels. Arguments: the root, a name and, if it is not the release's, a namespace. More labels
may follow. */ -}}
{{- define "responder.metadata" -}}
{{- $root := first . -}}
name: {{ index . 1 }}
namespace: {{ rest . | rest | first | default $root.Release.Namespace }}
labels:
  app.kubernetes.io/name: {{ index . 1 | trunc 63 | trimSuffix "-" }}
  app.kubernetes.io/instance: {{ $root.Release.Name }}
  app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ $root.Release.Service }}
  app.kubernetes.io/part-of: rollback-responder
  helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- end }}

{{- /* Name of the Secret with the variables of the configuration. */ -}}
{{- define "responder.secret" -}}
{{- if and .Values.existingSecret .Values.secrets -}}
{{ fail "secrets: not used, because existingSecret names a Secret: set existingSecret to \"\" or remove secrets" }}
{{- end -}}
{{ .Values.existingSecret | default "responder" }}
{{- end }}

{{- /* Fails if the configuration needs a variable that nothing sets. An existing Secret may have any. */ -}}
{{- define "responder.variables" -}}
{{- $set := keys .Values.secrets -}}
{{- range .Values.responder.env }}{{ $set = append $set .name }}{{ end -}}
{{- range regexFindAll `(^|[^$])\$\{\w+\}` (include "responder.config" .) -1 -}}
{{- $name := regexFind `\w+` (regexFind `\{\w+` .) -}}
{{- if not (has $name $set) -}}
{{- fail (printf "secrets.%s: missing, but responder.config contains ${%s}" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* "true" if the journal is a file. */ -}}
{{- define "responder.sqlite" -}}
{{ hasPrefix "sqlite:" .Values.responder.config.state | ternary "true" "" }}
{{- end }}

{{- /* The configuration of the responder. */ -}}
{{- define "responder.config" -}}
{{- $web := .Values.responder.config.web | default dict -}}
{{- if hasKey $web "listen" -}}
{{- fail "responder.config.web.listen: the chart sets it: remove it" -}}
{{- end -}}
{{- $host := printf "responder.%s" .Release.Namespace -}}
{{- $hosts := list "responder" $host (printf "%s.svc" $host) (printf "%s.svc.%s" $host .Values.clusterDomain) -}}
{{- $set := dict "listen" "0.0.0.0:9095" "allowed_hosts" (concat $hosts ($web.allowed_hosts | default list)) -}}
{{ toYaml (merge (dict "web" (merge $set $web)) .Values.responder.config) }}
{{- end }}

{{- /* The configuration of the exporters. */ -}}
{{- define "responder.exporters" -}}
{{- range list "listen" "advertise" -}}
{{- if hasKey $.Values.exporters.config . -}}
{{- fail (printf "exporters.config.%s: the chart sets it: remove it" .) -}}
{{- end -}}
{{- end -}}
{{- $set := dict "listen" "0.0.0.0:9469" "advertise" (printf "exporters.%s.svc:9469" .Release.Namespace) -}}
{{ toYaml (merge $set .Values.exporters.config) }}
{{- end }}

{{- /* Security, scheduling and pull secrets of a pod. Arguments by name: the root, the values of the program, and whether
it writes to a volume (fsGroup). */ -}}
{{- define "responder.pod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  {{- if .fsGroup }}
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- /* The security context of a container. */ -}}
{{- define "responder.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
