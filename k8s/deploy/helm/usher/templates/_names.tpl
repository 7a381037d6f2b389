{{/* What has no namespace: two releases of one name, in two namespaces, must not take each other's. */}}
{{- define "usher.clusterName" -}}
{{ if ne .Release.Name .Release.Namespace }}{{ .Release.Namespace }}-{{ end }}{{ .Release.Name }}
{{- end }}

{{- define "usher.image" -}}
{{ if .Values.image.digest }}{{ printf "%s@%s" .Values.image.repository .Values.image.digest | quote }}
{{- else }}{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
{{- end }}
{{- end }}
