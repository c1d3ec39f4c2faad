"""What processes exchange, and whose gradients come back."""

from pathlib import Path

import pytest
import torch

from biomass_pl.training.gather import from_all_processes, mean_over_processes, process_count


def test_alone_everything_stays_as_it_is():
    vectors = torch.arange(6.0).reshape(2, 3)
    assert process_count() == 1
    assert from_all_processes(vectors, dim=1) == (vectors, 0)
    value = torch.tensor(3.0, requires_grad=True)
    mean = mean_over_processes(value)
    assert float(mean) == 3 and not mean.requires_grad


def in_a_process(rank: int, folder: str) -> None:
    """The values that a process gets, and the gradient of a loss in which row r of all weighs 10 ** r."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    results = {"count": process_count(), "mean": mean_over_processes(torch.tensor(1.0 + 2 * rank))}
    for with_grad in (True, False):
        own = torch.full((1, 2, 1), rank + 1.0, requires_grad=True)
        everywhere, results["rank"] = from_all_processes(own, dim=1, with_grad=with_grad)
        loss = (rank + 1) * (everywhere.flatten() * torch.tensor([1.0, 10, 100, 1000])).sum()
        loss.backward()
        results[with_grad] = everywhere.detach().flatten().tolist(), own.grad.flatten().tolist()
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    folder: Path = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(in_a_process, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_every_process_has_the_vectors_of_all_in_the_order_of_ranks(results):
    for rank, result in enumerate(results):
        assert (result["count"], result["rank"], float(result["mean"])) == (2, rank, 2.0)
        assert result[True][0] == result[False][0] == [1, 1, 2, 2]


def test_gradients_come_back_from_all_processes_or_from_the_own_alone(results):
    """The second process's loss is twice the first one's."""
    assert [result[True][1] for result in results] == [[3, 30], [300, 3000]]
    assert [result[False][1] for result in results] == [[1, 10], [200, 2000]]
