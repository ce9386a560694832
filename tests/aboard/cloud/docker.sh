#!/bin/bash
set -e
docker run --rm -it --gpus '"device=0,1,2,3"' --ipc=host --shm-size 16g \
    -v /srv/imagenet:/data:ro -v $PWD:/workspace -w /workspace -p 6006:6006 \
    -e NCCL_DEBUG=INFO -e HF_TOKEN --name resnet \
    pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime \
    torchrun --standalone --nproc_per_node=4 train.py --data /data --note "two words"
