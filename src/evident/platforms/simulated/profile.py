"""The simulator: the procedures of a direct boot on your own host, under a TEST root that proves nothing of any hardware."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from evident.appraisal.profile import Fact, LayerProfile, Profile, VtpmProfile, own_image_layers

SOURCE = "Evident's own simulator (docs: simulator)"

SIMULATED_2024 = Profile(
    id="simulated",
    title="Simulated: a software secure processor with its own TEST root",
    as_of=date(2024, 3, 26),
    provider="you",
    technology="snp",
    report_source=Fact("device", SOURCE),
    report_fresh=Fact(True, SOURCE),
    report_key_holder=Fact("whoever runs the simulator", SOURCE, "TEST keys in a file: anyone who has them can sign anything."),
    launch_covers=Fact(("firmware", "initrd", "kernel", "cmdline"), SOURCE),
    launch_reproducible=Fact(True, SOURCE),
    vtpm=VtpmProfile(Fact("none", SOURCE), Fact("none", SOURCE), Fact(False, SOURCE), Fact("nobody", SOURCE), Fact(0, SOURCE)),
    layers=own_image_layers(
        LayerProfile(Fact(4, SOURCE), Fact("you", SOURCE), Fact("tee", SOURCE)), measured_by="tee", runtime=False, source=SOURCE
    ),
    disk_key=Fact(("custom initrd",), SOURCE),
    provisioning_attested=Fact(True, SOURCE),
    residual={
        "root_of_trust": "Nothing is isolated here: the simulator's keys, memory and measurements are in the hands of whoever runs it."
    },
    notes=(Fact("For tests and demonstrations only; a production policy refuses it.", SOURCE),),
    simulated=True,
)

PROFILES = (SIMULATED_2024, replace(SIMULATED_2024, as_of=date(2026, 11, 22)))
