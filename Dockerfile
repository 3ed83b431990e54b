# The service, without torch. Keys first, for it serves the network: see docs/service.md.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bitalloc bitalloc
COPY allocator allocator
COPY quantize quantize
COPY sensitivity sensitivity
COPY api api
RUN python -m venv /opt/bitalloc && /opt/bitalloc/bin/pip install --no-cache-dir -c constraints.txt '.[service]'

FROM python:3.11-slim
COPY --from=build /opt/bitalloc /opt/bitalloc
RUN useradd --uid 10001 --no-create-home bitalloc && install -d -o bitalloc /var/lib/bitalloc
ENV PATH=/opt/bitalloc/bin:$PATH PYTHONUNBUFFERED=1 BITALLOC_DATA_DIR=/var/lib/bitalloc
USER bitalloc
VOLUME /var/lib/bitalloc
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["bitalloc"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
