import sys

from google.cloud import aiplatform

aiplatform.init(project="acme", location="europe-west4", staging_bucket="gs://acme-staging")
job = aiplatform.CustomTrainingJob(
    display_name="segmenter",
    script_path="trainer/task.py",
    container_uri="europe-docker.pkg.dev/vertex-ai/training/pytorch-gpu.2-4.py310:latest",
    requirements=["timm"],
)
job.run(
    replica_count=int(sys.argv[1]),
    machine_type="n1-standard-16",
    accelerator_type="NVIDIA_TESLA_V100",
    accelerator_count=2,
    args=["--epochs", "10"],
    environment_variables={"HF_TOKEN": "hf_not_a_real_one"},
)
