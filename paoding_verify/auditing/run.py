"""One audit from networks and regions to a result; also a certification and a comparison by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.members import binary_members, property_member
from paoding_verify.auditing.policy import Policy
from paoding_verify.auditing.provenance import describe
from paoding_verify.auditing.records import region_records
from paoding_verify.auditing.settle import failed, refuse_contradictions, settle
from paoding_verify.auditing.shipping import as_shipped
from paoding_verify.auditing.tasks import labelled, pair_tasks, robustness_tasks, specification_tasks
from paoding_verify.crew.bench import Crew
from paoding_verify.errors import InputError
from paoding_verify.evidence.claim import PAIR_KINDS, PAIR_QUESTIONS, Finding
from paoding_verify.evidence.measures import Evidence
from paoding_verify.evidence.metrics import accuracy_metrics
from paoding_verify.evidence.property import Property
from paoding_verify.evidence.pruning import FinetuneRecord, PruneTrace
from paoding_verify.evidence.question import Question
from paoding_verify.evidence.result import AuditResult
from paoding_verify.memo import FORGETFUL, Memo
from paoding_verify.network.graph import Network
from paoding_verify.network.onnx_out import shipped_onnx
from paoding_verify.network.record import model_record
from paoding_verify.regions import Region, regions_digest
from paoding_verify.task import Progress, Task

__all__ = ["PAIR_KINDS", "audit", "certify_model", "compare_models", "compare_specification"]


def audit(  # noqa: PLR0913 - the one call that takes everything
    original: Network, pruned: Network, regions: Sequence[Region], *,
    policy: Policy | None = None, config: AuditConfig | None = None, trace: PruneTrace | None = None,
    memo: Memo = FORGETFUL, progress: Progress | None = None, executor: Executor | None = None,
) -> AuditResult:  # fmt: skip
    """Every claim about both networks and the pair, each CERTIFIED one proved twice, and the policy's verdict on them.

    A region without a label gets the original's class at its centre. `trace` is the pruner's record; without it the
    pruned network counts as given. Claims that `memo` kept of the same call are taken from it. Claims are settled by
    the workers of `executor`, if there is one, with the same results.
    Raises: InputError if networks and regions do not fit together; SoundnessError if evidence contradicts itself.
    """
    config = config or AuditConfig()
    _fit_together(original, pruned)
    original, pruned = as_shipped(original, "original"), as_shipped(pruned, "pruned")
    regions = labelled(original, regions)
    networks = {"original": original, "pruned": pruned}
    means = _Means(config, memo, progress, Crew(executor, config.deadline(), failed))
    findings = []
    for subject, network in networks.items():
        tasks = robustness_tasks(subject, network.num_outputs, regions)
        findings += means.certify(network, tasks, f"claims about the {subject} network")
    tasks = pair_tasks(original.num_outputs, regions, questions=list(map(Question, PAIR_KINDS)), delta=config.delta)
    findings += means.compare((original, pruned, trace.alignment if trace else None), tasks)
    result = _result("audit", networks, regions, findings, config=config, trace=trace)
    outcome = (policy or Policy.default()).apply(Evidence(result.claims, result.models))
    return replace(result, policy=outcome)


def certify_model(  # noqa: PLR0913 - a certification with all its settings
    network: Network, regions: Sequence[Region], *, properties: Sequence[Property] | None = None,
    config: AuditConfig | None = None, memo: Memo = FORGETFUL, progress: Progress | None = None,
    executor: Executor | None = None,
) -> AuditResult:  # fmt: skip
    """Whether the network keeps its label on every region; with `properties`, whether property k holds on region k.
    `executor`: whose workers settle the claims; None: this process.

    Raises: InputError if network, regions and properties do not fit together.
    """
    config = config or AuditConfig()
    network = as_shipped(network, "original")
    stated: dict[str, bytes] = {}
    if properties is None:
        regions = labelled(network, regions)
        tasks = robustness_tasks("original", network.num_outputs, regions)
    else:
        if len(properties) != len(regions):
            raise InputError(f"{len(regions)} regions need as many properties; got {len(properties)}")
        tasks = specification_tasks(list(zip(regions, properties, strict=True)))
        stated = property_member({task.id: prop for task, prop in zip(tasks, properties, strict=True)})
    means = _Means(config, memo, progress, Crew(executor, config.deadline(), failed))
    findings = means.certify(network, tasks, "claims about the network")
    result = _result("certify", {"original": network}, regions, findings, config=config)
    return replace(result, files={**result.files, **stated})


def compare_models(  # noqa: PLR0913 - a comparison with all its settings
    original: Network, pruned: Network, regions: Sequence[Region], *,
    kinds: Sequence[str | Question] = PAIR_KINDS, config: AuditConfig | None = None, memo: Memo = FORGETFUL,
    progress: Progress | None = None, executor: Executor | None = None,
) -> AuditResult:  # fmt: skip
    """Whether the pair decides alike on every region and how far its outputs are apart. `executor`: whose workers
    settle the claims; None: this process.

    kinds: top1_equivalent, output_distance (with the configuration's delta; without one it is bracketed), or a
    `Question` for those that take a number; each of them once.
    Raises: InputError if networks and regions do not fit together.
    """
    config = config or AuditConfig()
    _fit_together(original, pruned)
    original, pruned = as_shipped(original, "original"), as_shipped(pruned, "pruned")
    questions = [kind if isinstance(kind, Question) else Question(kind) for kind in kinds]
    questions.sort(key=lambda question: PAIR_QUESTIONS.index(question.kind))
    if not questions or len({question.kind for question in questions}) < len(questions):
        raise InputError(f"a comparison asks for some of {', '.join(PAIR_QUESTIONS)}, each once; got {list(kinds)}")
    regions = labelled(original, regions)
    tasks = pair_tasks(original.num_outputs, regions, questions=questions, delta=config.delta)
    means = _Means(config, memo, progress, Crew(executor, config.deadline(), failed))
    findings = means.compare((original, pruned, None), tasks)
    return _result("compare", {"original": original, "pruned": pruned}, regions, findings, config=config)


def compare_specification(  # noqa: PLR0913 - a comparison with all its settings
    original: Network, pruned: Network, pairs: Sequence[tuple[Region, Property]], *,
    config: AuditConfig | None = None, memo: Memo = FORGETFUL, progress: Progress | None = None,
    executor: Executor | None = None,
) -> AuditResult:  # fmt: skip
    """Whether every property, over the outputs of both networks, holds on its region. `executor`: whose workers settle
    the claims; None: this process.

    Raises: InputError if networks, regions and properties do not fit together.
    """
    config = config or AuditConfig()
    _fit_together(original, pruned)
    original, pruned = as_shipped(original, "original"), as_shipped(pruned, "pruned")
    tasks = specification_tasks(pairs, subject="pair")
    means = _Means(config, memo, progress, Crew(executor, config.deadline(), failed))
    findings = means.compare((original, pruned, None), tasks)
    regions = [region for region, _ in pairs]
    result = _result("compare", {"original": original, "pruned": pruned}, regions, findings, config=config)
    stated = property_member({task.id: prop for task, (_, prop) in zip(tasks, pairs, strict=True)})
    return replace(result, files={**result.files, **stated})


@dataclass(frozen=True)
class _Means:
    """What claims are settled with."""

    config: AuditConfig
    memo: Memo
    progress: Progress | None
    crew: Crew

    def certify(self, network: Network, tasks: Sequence[Task], stage: str) -> list[Finding]:
        """The findings about one network; `stage` is what progress calls them."""
        from paoding_verify.robustness.certify import certify

        watch = _stage(self.progress, stage)
        return settle(
            lambda some: certify(network, some, self.config.search, memo=self.memo, progress=watch, crew=self.crew),
            tasks,
        )

    def compare(
        self, pair: tuple[Network, Network, tuple[tuple[int, ...], ...] | None], tasks: Sequence[Task]
    ) -> list[Finding]:
        """The findings about a pair: original, pruned network, and their alignment if it is known."""
        from paoding_verify.equivalence.compare import compare

        (original, pruned, alignment), watch = pair, _stage(self.progress, "claims about the pair")
        return settle(
            lambda some: compare(
                original, pruned, some, self.config.search, alignment=alignment, memo=self.memo, progress=watch,
                crew=self.crew,
            ),
            tasks,
        )  # fmt: skip


def _fit_together(original: Network, pruned: Network) -> None:
    """Raises: InputError if the networks differ in what they read or give."""
    mine, theirs = ((n.input_shape, n.num_outputs) for n in (original, pruned))
    if mine != theirs:
        raise InputError(
            f"the pruned network maps {theirs[0]} to {theirs[1]} outputs, the original {mine[0]} to {mine[1]}: "
            "a pair must have the same inputs and outputs"
        )


def _stage(progress: Progress | None, name: str) -> Progress | None:
    """Reports claims as steps of one named piece of work, whatever the cascade calls each of them."""
    if progress is None:
        return None
    return lambda _, done, total: progress(name, done, total)


def _result(
    mode: str, networks: Mapping[str, Network], regions: Sequence[Region], findings: Sequence[Finding], *,
    config: AuditConfig, trace: PruneTrace | None = None,
) -> AuditResult:  # fmt: skip
    claims = tuple(finding.claim for finding in findings)
    refuse_contradictions(claims)
    shipped = {role: shipped_onnx(network) for role, network in networks.items()}
    return AuditResult(
        mode=mode,
        models=tuple(model_record(network, role) for role, network in networks.items()),
        regions=region_records(regions),
        claims=claims,
        metrics=accuracy_metrics(claims),
        policy=None,
        pruning=trace,
        provenance=describe(
            config,
            _split_words(mode, trace, regions, config.data_split),
            pruned=trace is not None,
            pair=mode != "certify",
            drawn=bool(config.drawing) and any(region.eps is not None for region in regions),
        ),
        files=binary_members(shipped, regions, findings),
    )


def _split_words(mode: str, trace: PruneTrace | None, regions: Sequence[Region], told: str) -> str:
    """`told` is what the caller knows of the pruner's data; empty: only the trace speaks."""
    if trace is None:
        return told or (
            "One network alone: nothing was pruned."
            if mode == "certify"
            else "The pruned network was given; what it was pruned with is not known to the audit."
        )
    if trace.finetuning is None:
        return told or _pruner_words(trace, "no region of this report, and no row of its data, was used")
    words = told or _pruner_words(trace, "no region of this report was used")
    return f"{words} {_training_words(trace.finetuning, regions)}"


def _pruner_words(trace: PruneTrace, unused: str) -> str:
    if "num_user_inputs" in trace.anchors:
        return (
            "The pruner was given unlabelled inputs by its caller; whether regions reported here are drawn around some "
            "of them is not known."
        )
    if trace.anchors.get("source") == "synthesised":
        return (
            f"The pruner made its own {trace.anchors.get('count')} anchors from the original network alone; {unused} "
            "to choose, compensate or repair."
        )
    if trace.anchors.get("source") == "none":
        return f"The pruner looked at weights alone; {unused} to choose."
    return "The pruner was given regions by its caller; whether they are among the regions reported here is not known."


def _training_words(record: FinetuneRecord, regions: Sequence[Region]) -> str:
    trained = f"Fine-tuning trained on {record.num_rows} rows of {record.source or 'data without a name'}"
    if record.audited_sha256 != regions_digest(regions):
        return f"{trained}; whether some of them lie in the regions reported here is not known."
    if not record.num_excluded:
        return f"{trained}; none of that file's rows lies in a region of this report."
    return (
        f"{trained}; rows that lie in a region of this report ({record.num_excluded}) were left out of training and of "
        "the figures by stage."
    )
