import sagemaker
from sagemaker.inputs import TrainingInput
from sagemaker.pytorch import PyTorch

HOURS = 60 * 60
instance_type = "ml.p4d.24xlarge"

estimator = PyTorch(
    entry_point="train.py",
    source_dir="src",
    role=sagemaker.get_execution_role(),
    framework_version="2.5",
    py_version="py311",
    instance_count=3,
    instance_type=instance_type,
    max_run=36 * HOURS,
    hyperparameters={"epochs": 3, "lr": 1e-4, "bf16": True},
    distribution={"torch_distributed": {"enabled": True}},
    use_spot_instances=True,
    checkpoint_s3_uri="s3://acme/checkpoints",
)
estimator.fit({"train": TrainingInput("s3://acme/corpus/train"), "valid": "s3://acme/corpus/valid"})
