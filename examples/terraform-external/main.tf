# The statement of a confidential VM as data: every plan and every apply asks the machine, and what rests on it states what it has to prove.
# Needs the provider hashicorp/external. docs/infrastructure-as-code.md explains it.

terraform {
  required_version = ">= 1.5"
  required_providers {
    external = {
      source  = "hashicorp/external"
      version = "~> 2.3"
    }
  }
}

variable "name" {
  description = "Name of a deployment that runs."
  type        = string
}

data "external" "statement" {
  program = ["evident", "attest", var.name, "-o", "external"]
}

resource "terraform_data" "announced" {
  input = data.external.statement.result.bundle_sha256

  lifecycle {
    precondition {
      condition     = tonumber(data.external.statement.result.trustworthy) >= 3
      error_message = "Level 3 has to hold without the provider's word before anything is announced."
    }
    precondition {
      condition     = data.external.statement.result.simulated == "false"
      error_message = "A simulated machine proves nothing."
    }
  }
}

output "still_trusted" {
  value = split(",", data.external.statement.result.trusted_parties)
}
