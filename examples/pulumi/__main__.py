"""A confidential VM whose `pulumi up` fails when its attestation does, by the provider `pulumi-command`.

    pulumi config set name shop
    pulumi config set up "evident up shop.yaml"

docs/infrastructure-as-code.md explains it.
"""

import json
import time

import pulumi
from pulumi_command import local

settings = pulumi.Config()
name = settings.require("name")

machine = local.Command("machine", create=settings.require("up"), delete=f"evident down {name}")

# A command that ends with another exit code than 0 fails its resource; the time makes every `pulumi up` ask the machine anew.
attested = local.Command(
    "attested",
    create=f"evident attest {name} -o external < /dev/null",
    triggers=[machine.id, time.time()],
    opts=pulumi.ResourceOptions(depends_on=[machine]),
)

statement = attested.stdout.apply(json.loads)
pulumi.export("trustworthy", statement["trustworthy"])
pulumi.export("still_trusted", statement["trusted_parties"])
