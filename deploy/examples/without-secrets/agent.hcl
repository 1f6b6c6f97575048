# Templates of Vault Agent work unchanged: seal-deliver agent --config agent.hcl --to=/secrets
template {
  contents = <<-EOT
    {{ with secret "secret/data/db" -}}
    DATABASE_URL=postgres://{{ .Data.data.user }}:{{ .Data.data.password | urlquery }}@pg/shop
    {{ end -}}
    EOT
  destination = "/secrets/web.env"
  perms       = "0440"
}
