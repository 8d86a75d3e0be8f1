"""Losses between a student and a teacher, so that `tfs.distillation.X` reads as in Keras."""

from tfsqueeze.distillation.assistants import teach_in_turn
from tfsqueeze.distillation.contrastive import Contrastive
from tfsqueeze.distillation.decoupled import DecoupledKD
from tfsqueeze.distillation.features import AttentionTransfer, Features
from tfsqueeze.distillation.keras_loss import KerasLoss
from tfsqueeze.distillation.loss import Comparison, DistillationLoss, FeatureLoss, OutputLoss
from tfsqueeze.distillation.mutual import MutualLearning
from tfsqueeze.distillation.regression import LogitRegression, Regression
from tfsqueeze.distillation.relational import RelationalAngle, RelationalDistance, SimilarityPreserving
from tfsqueeze.distillation.self_distillation import SelfDistillation
from tfsqueeze.distillation.soft_labels import SoftLabels
from tfsqueeze.distillation.soft_targets import SoftTargets
from tfsqueeze.distillation.teachers import Teachers

__all__ = [
    "AttentionTransfer",
    "Comparison",
    "Contrastive",
    "DecoupledKD",
    "DistillationLoss",
    "FeatureLoss",
    "Features",
    "KerasLoss",
    "LogitRegression",
    "MutualLearning",
    "OutputLoss",
    "Regression",
    "RelationalAngle",
    "RelationalDistance",
    "SelfDistillation",
    "SimilarityPreserving",
    "SoftLabels",
    "SoftTargets",
    "Teachers",
    "teach_in_turn",
]
