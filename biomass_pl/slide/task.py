"""Training of networks that bring slides and their reports together, and write reports."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from biomass_pl.errors import ConfigError
from biomass_pl.evaluation.bootstrap import Bootstrap
from biomass_pl.evaluation.pictures import save_figure
from biomass_pl.files import write_text
from biomass_pl.slide.biogpt import BioGptPart, LocalBioGpt, read_biogpt
from biomass_pl.slide.biogpt_settings import BioGptConfig
from biomass_pl.slide.captions import caption_texts, caption_tokens
from biomass_pl.slide.checkpoint_record import NetworkRecord
from biomass_pl.slide.coca import SlideCaptioner
from biomass_pl.slide.evaluation import CAPTION_TOKENS, ROW, SpecimenEvaluation
from biomass_pl.slide.evaluation_settings import CaptionsConfig, EvaluationConfig, FewShotConfig, ZeroShotConfig
from biomass_pl.slide.image_export import exportable_tower
from biomass_pl.slide.locks import TowerLocks
from biomass_pl.slide.pairs import IMAGE, MEMORY, NLL, TEXT, TOKENS, as_array, encode_pairs, token_batch
from biomass_pl.slide.pictures import tower_map
from biomass_pl.slide.poolers import ImageEncoding
from biomass_pl.slide.prediction_table import CAPTION, IMAGE_ARRAY, TEXT_ARRAY, class_column, question_names
from biomass_pl.slide.presets import PRESETS
from biomass_pl.slide.pretrained import PretrainedNetwork, read_pretrained
from biomass_pl.slide.report import SlideReport
from biomass_pl.slide.token_choice import GenerationConfig
from biomass_pl.slide.tokenizer import ReportTokenizer, train_tokenizer
from biomass_pl.training.adamw import AdamWConfig, adamw_groups
from biomass_pl.training.chunks import in_chunks
from biomass_pl.training.export import Exportable
from biomass_pl.training.image_text_loss import ImageTextLoss
from biomass_pl.training.locking import LockedModules
from biomass_pl.training.optim import ParameterGroup, TrainingLength
from biomass_pl.training.step_schedule import StepSchedule
from biomass_pl.training.task import Objective, PredictOutput, StepOutput, Task

_LARGEST_LOG_SCALE = math.log(100)


class SlideCaptioning(Task):
    """Learns which report belongs to which specimen, and to write reports (CoCa, Yu et al. 2022).

    Args:
        name: Sizes of the network: coca_stage_1 (small), coca_stage_2_perceiver, coca_attention, clip (writes no
            reports), lm (sees no features) or lm_baseline (the published one of those).
        pretrained: Checkpoint of a run to start from, with its tokenizer; it must fit exactly.
        biogpt: A pretrained language model as text tower and decoder, with its tokenizer.
        vocab_size: The most tokens of the tokenizer, which is trained on the fold's training reports.
        loss: Losses of images and texts, and their weights.
        accum_freq: Parts that a batch is cut into, for small memories; the gradient is that of the whole batch.
        optim: Settings of AdamW.
        scheduler: How the rate changes from step to step.
        lock_image: Keep the image tower as it is.
        lock_image_unlocked_groups: Last groups of its layers that learn nevertheless.
        lock_image_freeze_bn_stats: Keep the statistics of batch normalisation in its locked part.
        lock_text: Keep the text tower as it is.
        lock_text_unlocked_layers: Last groups of its layers that learn nevertheless.
        lock_text_freeze_layer_norm: Lock layer normalisation in its locked part as well.
        compile: Compile the towers with torch.compile: slow to start, then faster on a GPU.
        grad_checkpointing: Compute activations again in the backward pass: less memory, more time.
        captions: Whether and when reports are generated and scored.
        generation: How reports are generated.
        zero_shot: Questions that prompts answer.
        few_shot: Questions that examples answer.
        eval: Intervals of scores, and epochs without validation.
    """

    network: SlideCaptioner
    precisions = ("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true")

    def __init__(
        self,
        *,
        name: str = "coca_stage_1",
        pretrained: Path | None = None,
        biogpt: BioGptConfig = BioGptConfig(),
        vocab_size: int = 8192,
        loss: ImageTextLoss = ImageTextLoss(),
        accum_freq: int = 1,
        optim: AdamWConfig = AdamWConfig(),
        scheduler: StepSchedule = StepSchedule(),
        lock_image: bool = False,
        lock_image_unlocked_groups: int = 0,
        lock_image_freeze_bn_stats: bool = False,
        lock_text: bool = False,
        lock_text_unlocked_layers: int = 0,
        lock_text_freeze_layer_norm: bool = False,
        compile: bool = False,
        grad_checkpointing: bool = False,
        captions: CaptionsConfig = CaptionsConfig(),
        generation: GenerationConfig = GenerationConfig(),
        zero_shot: ZeroShotConfig = ZeroShotConfig(),
        few_shot: FewShotConfig = FewShotConfig(),
        eval: EvaluationConfig = EvaluationConfig(),
    ) -> None:
        super().__init__()
        if name not in PRESETS:
            raise ConfigError(f"There is no network '{name}'. Set model.name to one of {', '.join(PRESETS)}.")
        if accum_freq < 1:
            raise ConfigError(f"model.accum_freq is {accum_freq}; give 1 (the whole batch at once) or more.")
        # Paths are no plain values, which is all that a checkpoint may hold.
        self.save_hyperparameters(ignore=["pretrained", "biogpt", "zero_shot", "few_shot"])
        self.name = name
        self.config = PRESETS[name]
        self.pretrained = pretrained
        self.biogpt = biogpt
        self.vocab_size = vocab_size
        self.loss = loss
        self.accum_freq = accum_freq
        self.optim = optim
        self.scheduler = scheduler
        self.locks = TowerLocks(
            image=lock_image,
            image_unlocked_groups=lock_image_unlocked_groups,
            image_freeze_bn_stats=lock_image_freeze_bn_stats,
            text=lock_text,
            text_unlocked_layers=lock_text_unlocked_layers,
            text_freeze_layer_norm=lock_text_freeze_layer_norm,
        )
        self.compile_towers = compile
        self.grad_checkpointing = grad_checkpointing
        self.captions = captions
        self.generation = generation
        self.zero_shot = zero_shot
        self.few_shot = few_shot
        self.grace_period = eval.grace_period
        self.compares = self.config.image is not None and loss.contrastive_weight > 0
        self.writes = self.config.decoder is not None and loss.caption_weight > 0
        self.evaluation = SpecimenEvaluation(zero_shot=zero_shot, few_shot=few_shot)
        self._check_settings()
        if biogpt.folder is None:
            self._check_positions()
        self.objective = Objective(name="val/loss" if self.writes else "val/image_to_text_mean_rank", mode="min")
        self.report = SlideReport(
            embeddings=self.config.image is not None,
            questions=len(zero_shot.specimen_class_mapping),
            bootstrap=Bootstrap(draws=eval.bootstraps, confidence=eval.ci),
        )
        self.tokenizer: ReportTokenizer | None = None
        self.biogpt_part: BioGptPart | None = None
        self.input_dim = 0
        self.seed = 0
        self._locked: dict[str, LockedModules] = {}
        self._scored: set[str] = set()

    def _check_settings(self) -> None:
        """Refuses what a network without images or without a decoder cannot do."""
        if not (self.compares or self.writes):
            raise ConfigError(
                f"With these weights of its losses (model.loss), the network '{self.name}' has nothing to learn from. "
                "Raise model.loss.contrastive_weight, or model.loss.caption_weight of a network with a decoder."
            )
        if self.captions.enabled and self.config.decoder is None:
            raise ConfigError(f"The network '{self.name}' writes no reports. Set model.captions.enabled: false.")
        if self.evaluation.asks and self.config.image is None:
            raise ConfigError(
                f"The network '{self.name}' sees no features to tell classes by. Leave model.zero_shot and "
                "model.few_shot out."
            )
        if self.biogpt.folder is not None and self.pretrained is not None:
            raise ConfigError(
                "model.pretrained brings its text tower and decoder with it. Leave out either it or model.biogpt."
            )
        if self.biogpt.folder is not None and self.biogpt.lora_rank and self.locks.text:
            raise ConfigError(
                "With adapters, the text tower stands still already. Leave model.lock_text out, or set "
                "model.biogpt.lora_rank: 0."
            )

    def _check_positions(self) -> None:
        """Refuses captions that are longer than the network can write."""
        positions = self.config.text.context_length
        if self.captions.enabled and self.generation.max_seq_len > positions:
            raise ConfigError(
                f"model.generation.max_seq_len is {self.generation.max_seq_len}, but the network '{self.name}' has "
                f"{positions} positions. Give {positions} at most."
            )

    def set_up_for(self, data: Any) -> None:
        """Takes the width of the features, trains the tokenizer on the training reports, and reads the questions.

        Raises:
            BiomassError: A file of weights or questions cannot be used.
        """
        self.input_dim, self.seed = data.input_dim, data.seed
        origin = self._origin()
        if origin is None:
            self.tokenizer = train_tokenizer(
                data.training_reports(), vocab_size=self.vocab_size, max_length=self.config.text.context_length
            )
        else:
            self._take_text(origin.tokenizer, origin.biogpt)
            self._check_positions()
        self.evaluation.read(data)

    def check_data(self, data: Any) -> None:
        """Refuses batches that leave nothing to compare, or that cannot be cut.

        Raises:
            ConfigError: Names the setting.
        """
        super().check_data(data)
        if self.compares and data.batch_size < 2:
            raise ConfigError("data.batch_size 1 leaves a report nothing to be told from. Give 2 or more.")
        if self.accum_freq > data.batch_size:
            raise ConfigError(
                f"model.accum_freq {self.accum_freq} cuts data.batch_size {data.batch_size} into more parts than it "
                "has specimens. Lower it, or raise the other."
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the tokenizer with the weights, and what the network was built for."""
        record = NetworkRecord(
            tokenizer=self._tokenizer, input_dim=self.input_dim, seed=self.seed, biogpt=self.biogpt_part
        )
        checkpoint |= record.entries()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the tokenizer that the weights are for, and builds the network.

        Raises:
            RunError: The checkpoint lacks something.
            WeightsError: Its tokenizer is not that of its weights.
        """
        record = NetworkRecord.of(checkpoint)
        self.input_dim, self.seed = record.input_dim, record.seed
        self._take_text(record.tokenizer, record.biogpt)
        self.configure_model()

    def configure_model(self) -> None:
        """Builds the network if its tokens are known; `load_from_checkpoint` asks before it tells them."""
        if self.tokenizer is not None or self._trainer is not None:
            super().configure_model()

    def build(self) -> SlideCaptioner:
        """The network of the preset for these features and tokens, with what is locked."""
        network = SlideCaptioner(
            self.config,
            input_dim=self.input_dim,
            vocab_size=self._tokenizer.vocab_size,
            sigmoid_loss=self.loss.siglip,
            grad_checkpointing=self.grad_checkpointing,
        )
        if not self.compares:
            network.logit_scale.requires_grad_(False)  # several processes would wait for its gradient
        self._locked = self.locks.apply(network)
        if self.biogpt_part is not None:
            self.biogpt_part.freeze(network)
        if self.compile_towers:
            for tower in (network.image, network.text, network.decoder):
                if tower is not None:
                    tower.compile()  # in place: weights keep their names
        return network

    def start_from(self, data: Any) -> None:
        """Takes the pretrained weights where there are any; a resumed training has its own."""
        super().start_from(data)
        origin = self._origin() if data.first_epoch == 0 else None
        if origin is not None:
            origin.load_into(self.network)

    def parameter_groups(self, length: TrainingLength) -> list[ParameterGroup]:
        """`decay` and `no_decay`, at one rate."""
        return adamw_groups(
            self.network.named_parameters(),
            network_name=self.name,
            config=self.optim,
            schedule=self.scheduler,
            length=length,
        )

    def on_fit_start(self) -> None:
        """Refuses a training without any score, or that early stopping would end before the first one.

        Raises:
            ConfigError: Names the setting.
        """
        if self.grace_period and self.grace_period >= (self.trainer.max_epochs or 0):
            raise ConfigError(
                f"model.eval.grace_period {self.grace_period} leaves none of the {self.trainer.max_epochs} epochs to "
                "validate. Lower it."
            )
        if self.grace_period and any(stopping.check_finite for stopping in self.trainer.early_stopping_callbacks):
            raise ConfigError(
                "EarlyStopping takes the missing scores of model.eval.grace_period for a failure. Set its check_finite "
                "to false and its patience to more than the grace period."
            )

    def on_train_epoch_start(self) -> None:
        """Keeps locked parts in eval mode."""
        for tower, locked in self._locked.items():
            locked.set_eval(self.network.get_submodule(tower))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step, after which similarities are multiplied by 1 to 100."""
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.network.logit_scale.clamp_(0, _LARGEST_LOG_SCALE)

    def step(self, batch: dict[str, Any]) -> StepOutput:
        """Losses of a batch, each with its weight; in evaluation also what the network makes of it."""
        tokens, token_valid = token_batch(self._tokenizer, batch["report"], self.device)
        encode = partial(encode_pairs, network=self.network, captions=self.writes)
        found = in_chunks(
            encode, batch["features"], batch["valid"], tokens, token_valid, chunks=min(self.accum_freq, len(tokens))
        )
        losses, network = {}, self.network
        if self.compares:
            losses["contrastive"] = self.loss.contrastive(
                found[IMAGE],
                found[TEXT],
                log_scale=network.logit_scale,
                bias=network.logit_bias,
                across_processes=self.training,
            )
        if self.writes:
            losses["caption"] = self.loss.caption(found[NLL], found[TOKENS], across_processes=self.training)
        outputs = {name: found[name] for name in (IMAGE, TEXT, MEMORY) if name in found}
        measures = {"scale": network.logit_scale.detach().exp()} if self.compares else {}
        return StepOutput(losses=losses, outputs=outputs, measures=measures)

    def kept_names(self) -> tuple[str, ...]:
        """Numbers of the specimens, vectors of both towers, tokens of what was written."""
        return ROW, *((IMAGE, TEXT) if self.config.image is not None else ()), CAPTION_TOKENS

    def keep(self, output: StepOutput, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Those of a batch; tokens only where captions are due."""
        kept = {name: output.outputs[name].float() for name in (IMAGE, TEXT) if name in output.outputs}
        tokens = torch.empty(len(batch["id"]), 0)
        if self._captions_are_due():
            tokens = self._caption_tokens(batch, output.outputs)
        kept[CAPTION_TOKENS] = tokens.to(self.device)
        return kept | {ROW: self.evaluation.rows_of(batch["id"]).to(self.device)}

    def on_validation_epoch_start(self) -> None:
        """Has the weights that are validated make the vectors of prompts and examples."""
        super().on_validation_epoch_start()
        # Not at the end of the epoch: there averaged weights, of which the held-out vectors are, have been taken out.
        if not self._is_in_grace():
            self._prepare_evaluation()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Logs losses and keeps what scores need, but not in the grace period."""
        if not self._is_in_grace():
            super().validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Logs the scores; in the grace period, that there is none."""
        if self._is_in_grace():
            self.log(self.objective.name, float("nan"))
        else:
            super().on_validation_epoch_end()

    def score(self, kept: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Published scores of retrieval, questions and, where due, captions; NaN for those known before but not due."""
        found = self.evaluation.scores(kept, self._tokenizer)
        self._scored |= found.keys()
        return {**dict.fromkeys(sorted(self._scored - found.keys()), float("nan")), **found}

    def on_predict_start(self) -> None:
        """Reads the questions, and has the weights make the vectors of prompts and examples."""
        super().on_predict_start()
        self.evaluation.read(self._data)
        self._prepare_evaluation()

    def predict_step(self, batch: dict[str, Any], batch_idx: int = 0) -> PredictOutput:
        """Classes with probabilities and a caption, as far as asked for, and the vectors of both towers."""
        tokens, token_valid = token_batch(self._tokenizer, batch["report"], self.device)
        found = encode_pairs(
            batch["features"], batch["valid"], tokens, token_valid, network=self.network, captions=False
        )
        columns: dict[str, Any] = {}
        if IMAGE in found:
            answers = self.evaluation.columns(batch["id"], as_array(found[IMAGE]))
            columns |= {
                name: torch.from_numpy(column) if isinstance(column, np.ndarray) else column
                for name, column in answers.items()
            }
        if self.captions.enabled:
            columns[CAPTION] = caption_texts(self._tokenizer, self._caption_tokens(batch, found).tolist())
        arrays = {name: found[key] for name, key in ((IMAGE_ARRAY, IMAGE), (TEXT_ARRAY, TEXT)) if key in found}
        return PredictOutput(ids=batch["id"], columns=columns, arrays=arrays)

    def illustrate(self, data: Any, predictions: pd.DataFrame, arrays: Mapping[str, np.ndarray], folder: Path) -> None:
        """Writes `tokenizer.json`, and draws `embeddings.png`, the vectors of both towers."""
        write_text(self._tokenizer.to_json(), folder / "tokenizer.json")
        if IMAGE_ARRAY in arrays:
            questions = question_names(predictions)
            labels = predictions[class_column(questions[0])].tolist() if questions else [""] * len(predictions)
            figure = tower_map(arrays[IMAGE_ARRAY], arrays[TEXT_ARRAY], labels)
            save_figure(figure, folder / "embeddings.png")

    def exportable(self) -> Exportable:
        """The image tower.

        Raises:
            ConfigError: There is none.
        """
        return exportable_tower(self.network, input_dim=self.input_dim)

    def _origin(self) -> PretrainedNetwork | LocalBioGpt | None:
        """Where weights and tokens come from, if there were any before."""
        if self.pretrained is not None:
            return read_pretrained(self.pretrained)
        if self.biogpt.folder is not None:
            return read_biogpt(self.biogpt.folder, self.biogpt)
        return None

    def _take_text(self, tokenizer: ReportTokenizer, biogpt: BioGptPart | None) -> None:
        """Takes the tokens that there are, and makes a BioGPT of the preset where they are BioGPT's."""
        self.tokenizer, self.biogpt_part = tokenizer, biogpt
        self.config = PRESETS[self.name] if biogpt is None else biogpt.of(PRESETS[self.name])

    def _caption_tokens(self, batch: dict[str, Any], found: Mapping[str, Tensor]) -> Tensor:
        image = ImageEncoding(found[IMAGE], found[MEMORY]) if IMAGE in found else None
        return caption_tokens(self.network, image, batch["id"], settings=self.generation, seed=self.seed)

    def _captions_are_due(self) -> bool:
        finished = self.current_epoch + 1
        due = finished % self.captions.every_n_epochs == 0 or finished == self.trainer.max_epochs
        return self.captions.enabled and due

    def _is_in_grace(self) -> bool:
        return self.current_epoch < self.grace_period

    def _prepare_evaluation(self) -> None:
        with torch.inference_mode(), self.trainer.precision_plugin.forward_context():
            self.evaluation.prepare(self.network, self._tokenizer, self._data)

    @property
    def _tokenizer(self) -> ReportTokenizer:
        if self.tokenizer is None:
            msg = "the tokenizer is known once there are data or a checkpoint"
            raise RuntimeError(msg)
        return self.tokenizer

    @property
    def _data(self) -> Any:
        return self.trainer.datamodule  # type: ignore[attr-defined]
