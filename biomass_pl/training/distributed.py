"""Several processes as launchers of other programs start them: where they meet, and which device each takes."""

import re
from datetime import timedelta

import torch
from lightning.pytorch.strategies import DDPStrategy

from biomass_pl.errors import ConfigError

_TCP = re.compile(r"tcp://(?P<host>[^\s:/@\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d+)")
_LARGEST_PORT = 65535


class LaunchedDDP(DDPStrategy):
    """`DDPStrategy` that can be told where the processes meet, and that each of them sees one device only.

    Args:
        dist_url: Where the processes meet: `tcp://HOST:PORT`, a free port of the machine of the first process; or
            `env://`, as `MASTER_ADDR` and `MASTER_PORT` say, or else as Lightning chooses.
        process_group_backend: How they talk, such as `gloo`; none takes `nccl` for GPUs and `gloo` for CPUs.
        set_device_rank: Whether the processes of a machine share out its devices. Otherwise each takes the only one
            that its launcher lets it see: set `trainer.devices` to 1, and `trainer.num_nodes` to the processes.
        static_graph: Whether the same parameters are used in every step, in the same way.
        find_unused_parameters: Whether to look in every step for parameters without a gradient.
        timeout: How long processes wait for each other.

    Raises:
        ConfigError: `dist_url` is of another form.
    """

    def __init__(
        self,
        *,
        dist_url: str = "env://",
        process_group_backend: str | None = None,
        set_device_rank: bool = True,
        static_graph: bool = False,
        find_unused_parameters: bool = False,
        timeout: timedelta = timedelta(minutes=30),
    ) -> None:
        super().__init__(
            process_group_backend=process_group_backend,
            timeout=timeout,
            static_graph=static_graph,
            find_unused_parameters=find_unused_parameters,
        )
        _check_url(dist_url)
        self.dist_url = dist_url
        self.set_device_rank = set_device_rank
        self.timeout = timeout

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        if self.set_device_rank or self.parallel_devices is None:
            return super().root_device
        return self.parallel_devices[0]

    def setup_distributed(self) -> None:
        """Meets the other processes."""
        if self.dist_url != "env://" and not torch.distributed.is_initialized():
            self.set_world_ranks()
            torch.distributed.init_process_group(
                self._get_process_group_backend(),
                init_method=self.dist_url,
                rank=self.global_rank,
                world_size=self.world_size,
                timeout=self.timeout,
            )
        super().setup_distributed()  # leaves processes that have met alone


def _check_url(url: str) -> None:
    if url == "env://":
        return
    match = _TCP.fullmatch(url)
    if match is None or not 0 < int(match["port"]) <= _LARGEST_PORT:
        raise ConfigError(
            f"LaunchedDDP.dist_url {url} is neither env:// nor tcp://HOST:PORT with a port from 1 to {_LARGEST_PORT}. "
            "Give one of them."
        )
