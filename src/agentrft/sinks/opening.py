"""Which sink an integration is. Each module is imported when it is needed, and its library with it."""

from agentrft.sinks.base import RunFacts, Sink
from agentrft.spec import IntegrationSpec
from agentrft.spec.integrations import MlflowIntegration, TensorBoardIntegration, TrackioIntegration, WandbIntegration


def new_sink(integration: IntegrationSpec, run: RunFacts) -> Sink:
    """The sink of an integration. It begins with its `open`."""
    match integration:
        case WandbIntegration():
            from agentrft.sinks.wandb import WandbSink

            return WandbSink(integration.wandb, run)
        case MlflowIntegration():
            from agentrft.sinks.mlflow import MlflowSink

            return MlflowSink(integration.mlflow, run)
        case TensorBoardIntegration():
            from agentrft.sinks.tensorboard import TensorBoardSink

            return TensorBoardSink(integration.tensorboard, run)
        case TrackioIntegration():
            from agentrft.sinks.trackio import TrackioSink

            return TrackioSink(integration.trackio, run)
