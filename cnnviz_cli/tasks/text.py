"""Text: one score, how alike the embeddings of the image and of a sentence are."""

from __future__ import annotations

from cnnviz_cli.core.classes import Labels
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.tasks.similarity import Similarity, SimilarityDescriber
from cnnviz_cli.tasks.spec import TaskContext, TaskQuestion, TaskSettings, TaskSpec, register

_MOST_LETTERS = 80
"""Of a sentence, in the words of a figure."""


@register
class TextTask(TaskSpec):
    """How well a sentence describes the image, to an image-text network."""

    name = "text"
    word = "text"
    usage = 'text:"SENTENCE" (of an image-text network)'
    sample = 'text:"a photo of a cat"'
    place = 6
    reads = ("scores",)

    def ask(self, settings: TaskSettings, what: str, context: TaskContext, /) -> TaskQuestion:
        if not context.embeds:
            fix = (
                "For instance: --model open_clip:ViT-B-32/laion2b_s34b_b79k. For classes from sentences: --prompts FILE"
            )
            if settings.prompts is not None:
                fix = "Leave --prompts out, or explain its classes with --target."
            raise UsageError(
                f"{escape_text(context.name, 60)} does not compare images with text", where="--objective", fix=fix
            )
        (reference,) = context.encode_text([what])
        if not reference.isfinite().all() or not reference.any():
            raise UsageError("the embedding of the sentence is zero or not finite", fix="Check the weights.")
        sentence = f'"{escape_text(what, _MOST_LETTERS)}"'
        labels = Labels((f"not similar to {sentence}", f"similar to {sentence}"))
        return TaskQuestion(labels, (0,), SimilarityDescriber(Similarity(reference, context.output.head), sentence))

    def check_objective(self, what: str, _text: str, /) -> None:
        if not what:
            raise UsageError("which sentence?", where="--objective", fix=self.sample)

    def check_settings(self, settings: TaskSettings) -> None:
        super().check_settings(settings)
        if "target" in settings.model_fields_set:
            fix = "Leave it out. Several sentences are classes: --prompts FILE"
            raise UsageError("there is one thing to explain, the similarity", where="--target", fix=fix)

    def mismatch(self, model: str, fitting: TaskSpec) -> UsageError:
        what = f"{model} returns {fitting.output}, and sentences are compared with vectors"
        return UsageError(what, where="--objective", fix="Use an image-text network: --model open_clip:NAME/TAG")
