# The engine alone: no secrets in any layer, no root, the journal in a volume.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE run.py ./
COPY engine engine
COPY actors actors
# docker build --build-arg EXTRAS=ccxt: with the other exchanges.
ARG EXTRAS=
RUN python -m venv /opt/surefire && /opt/surefire/bin/pip install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.12-slim
COPY --from=build /opt/surefire /opt/surefire
RUN useradd --uid 10001 --create-home --home-dir /data surefire
USER surefire
WORKDIR /data
VOLUME /data
ENV PATH=/opt/surefire/bin:$PATH PYTHONUNBUFFERED=1
# TERM drains; see `surefire run --help`. Give it time: docker stop -t 30.
STOPSIGNAL SIGTERM
# With tokens, SUREFIRE_TOKEN needs the role `read`; with TLS, give a check of your own.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", "\
import os, urllib.request as u; \
token = os.environ.get('SUREFIRE_TOKEN'); \
u.urlopen(u.Request('http://127.0.0.1:8002/health', headers={'Authorization': f'Bearer {token}'} if token else {}), timeout=2)"]
ENTRYPOINT ["surefire"]
CMD ["run", "--data-dir", "/data/var"]
