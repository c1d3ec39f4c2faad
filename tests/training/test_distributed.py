"""Processes meet where they are told to, and each takes the device that it may."""

import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch import Trainer
from torch.distributed import TCPStore, destroy_process_group, get_backend

from biomass_pl.errors import ConfigError
from biomass_pl.runs import find_run
from biomass_pl.training.distributed import LaunchedDDP
from tests.harness.another_system import WITH_TESTS, write_bags

MODULE = "tests.harness.another_system"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize(
    "url",
    [
        *("tcp://127.0.0.1", "tcp://:29500", "tcp://host:0", "tcp://host:65536", "tcp://host:port", "tcp://a/b:1"),
        *("file:///meeting_place", "host:29500", "env:", ""),
    ],
)
def test_an_address_of_another_form_is_refused(url):
    with pytest.raises(ConfigError, match=r"LaunchedDDP\.dist_url .* is neither env:// nor tcp://HOST:PORT"):
        LaunchedDDP(dist_url=url)


@pytest.mark.parametrize("url", ["env://", "tcp://node-1.cluster:29500", "tcp://[::1]:1", "tcp://10.0.0.1:65535"])
def test_an_address_of_a_known_form_is_taken(url):
    assert LaunchedDDP(dist_url=url).dist_url == url


@pytest.mark.parametrize("told", [True, False])
def test_the_first_process_listens_where_it_is_told(told, monkeypatch):
    port, other = free_port(), free_port()
    for name, value in {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(other)}.items():
        monkeypatch.setenv(name, value)
    strategy = LaunchedDDP(dist_url=f"tcp://127.0.0.1:{port}" if told else "env://")
    trainer = Trainer(accelerator="cpu", devices=1, strategy=strategy, logger=False, enable_checkpointing=False)
    trainer.strategy.setup_environment()
    try:
        assert get_backend() == "gloo"
        trainer.strategy.setup_distributed()  # as the next fold does: they have met
        TCPStore("127.0.0.1", port if told else other, is_master=False, timeout=timedelta(seconds=5))
    finally:
        destroy_process_group()


@pytest.mark.parametrize("shared", [True, False])
def test_a_process_that_sees_one_device_takes_it_whatever_its_rank(shared, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    strategy = LaunchedDDP(set_device_rank=shared)
    strategy.cluster_environment = LightningEnvironment()
    strategy.parallel_devices = [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert strategy.root_device.index == (1 if shared else 0)
    strategy.parallel_devices = strategy.parallel_devices[:1]
    if not shared:
        assert strategy.root_device.index == 0


def test_settings_of_torch_arrive():
    strategy = LaunchedDDP(process_group_backend="gloo", static_graph=True, find_unused_parameters=True)
    assert strategy.process_group_backend == "gloo"
    assert strategy._ddp_kwargs == {"static_graph": True, "find_unused_parameters": True}


def test_processes_with_one_device_each_train_together_and_each_machine_keeps_its_log(workdir):
    write_bags(Path("data"))
    strategy = "class_path: LaunchedDDP, init_args: {set_device_rank: false, static_graph: true}"
    Path("bags.yaml").write_text(
        "trainer:\n"
        "  {max_epochs: 2, accelerator: cpu, devices: 1, num_nodes: 2, precision: fp32,\n"
        f"   strategy: {{{strategy}}}, callbacks: [{{class_path: LocalLog}}]}}\n"
        f"model: {{class_path: {MODULE}.BagTask}}\n"
        f"data: {{class_path: {MODULE}.Bags, init_args: {{root: data, num_workers: 0}}}}\n"
    )
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = [sys.executable, "-m", *launcher, "biomass_pl", "fit", "--config", "bags.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=WITH_TESTS)
    assert done.returncode == 0, done.stderr
    run = find_run(Path("lightning_logs"))
    assert run.is_complete() and len(pd.read_csv(run.oof_predictions)) == 8
    assert sorted(path.name for path in run.path.glob("log_*.txt")) == ["log_0.txt"]
    assert "epoch 2/2" in (run.path / "log_0.txt").read_text()
