# The page in a container: the README's two commands, `pip install -r requirements.txt && python app.py`.
#   docker build -t mutual-forcing .
#   docker run --rm -p 7860:7860 mutual-forcing [--checkpoint OWNER/NAME@REVISION]
# With a GPU: docker build --build-arg TORCH_INDEX=https://pypi.org/simple ..., and docker run --gpus all ...
FROM python:3.11-slim-bookworm

WORKDIR /app
ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

# What changes least comes first: a change of the code installs nothing anew. Nobody but root may write to the
# program; uploads and films are in /tmp, what comes from the Hub in the user's home.
COPY packages.txt ./
# hadolint ignore=DL3008
RUN apt-get update \
    && xargs -a packages.txt apt-get install -y --no-install-recommends \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 page

# torch without CUDA is a tenth of the one with it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.txt ./
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -r requirements.txt

COPY app.py LICENSE NOTICE README.md ./
COPY docs docs
COPY examples examples
COPY mutual_forcing mutual_forcing
RUN python -m compileall -q app.py mutual_forcing

USER 1000
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/gradio_api/health', timeout=4)"]
ENTRYPOINT ["python", "app.py"]
