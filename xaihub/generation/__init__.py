"""Pictures made by any diffusion pipeline, one file a seed. The only importer of diffusers.

plan.py         which files of a repository a pipeline needs, and which are refused
finding.py      the pipeline that is meant, before anything large is fetched
pipelines.py    a pipeline ready to run: loaded, its scheduler chosen, its arguments known
making.py       pictures by seed into a folder, going on where an earlier run stopped
watching.py     each denoising step told, the time left estimated
"""

from xaihub.generation.finding import GenerationSettings
from xaihub.generation.making import Generated, generate
from xaihub.generation.pipelines import SCHEDULERS
from xaihub.generation.plan import is_pipeline

__all__ = ["SCHEDULERS", "Generated", "GenerationSettings", "generate", "is_pipeline"]
