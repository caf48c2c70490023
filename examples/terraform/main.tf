# A confidential VM whose apply fails when its attestation does. Nothing but what Terraform and OpenTofu have built in.
#
#   terraform init
#   terraform apply -var name=shop -var up="evident up shop.yaml"
#
# docs/infrastructure-as-code.md explains it.

terraform {
  required_version = ">= 1.5"
}

variable "name" {
  description = "Name of the deployment, as its document says."
  type        = string
}

variable "up" {
  description = "The command that creates it."
  type        = string
}

# Created by `evident up`, destroyed by `evident down`, which leaves a signed final record. A machine that is not accepted makes the command
# fail: the resource is tainted, and the next apply destroys it before it makes another.
resource "terraform_data" "machine" {
  input            = var.name
  triggers_replace = [var.up]

  provisioner "local-exec" {
    command = var.up
  }

  provisioner "local-exec" {
    when    = destroy
    command = "evident down ${self.input}"
  }
}

# Asked anew at every apply. Any decision but "accepted" is an exit code other than 0, and ends the apply.
resource "terraform_data" "attested" {
  input            = var.name
  triggers_replace = [terraform_data.machine.id, plantimestamp()]

  provisioner "local-exec" {
    command = "evident attest ${self.input}"
  }
}

# Whatever must not exist beside a machine that was refused depends on its attestation.
resource "terraform_data" "announced" {
  depends_on = [terraform_data.attested]
  input      = var.name
}
