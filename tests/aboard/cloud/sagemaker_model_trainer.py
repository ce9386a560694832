from sagemaker.modules.configs import Compute, InputData, SourceCode, StoppingCondition
from sagemaker.modules.distributed import Torchrun
from sagemaker.modules.train import ModelTrainer

trainer = ModelTrainer(
    training_image="763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch-training:2.5.1-gpu-py311",
    source_code=SourceCode(source_dir="code", entry_script="main.py", requirements="requirements.txt"),
    compute=Compute(instance_type="ml.p5.48xlarge", instance_count=2),
    distributed=Torchrun(),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=7200),
    hyperparameters={"depth": 12},
    environment={"NCCL_DEBUG": "WARN"},
    base_job_name="depth-12",
)
trainer.train(input_data_config=[InputData(channel_name="train", data_source="s3://acme/tokens")])
