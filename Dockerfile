# The twinstorm binary and its scenarios on a slim Debian 12, without compilers.
#
#   docker build -t twinstorm .
#   docker run --rm --ulimit nofile=65536:65536 -v "$PWD/runs:/runs" twinstorm run /usr/share/twinstorm/scenarios/smoke.yaml
#
# The process is user 10001, who must be allowed to write to the folder mounted at /runs.

FROM debian:bookworm-slim AS build
WORKDIR /src
# The list of packages is the scripts' own; copied first, so that a change of a source does not install them again.
COPY scripts/lib/setup.sh scripts/lib/setup.sh
RUN bash -euo pipefail -c 'source scripts/lib/setup.sh; ensure_packages "${build_packages[@]}"'
COPY . .
RUN bash -euo pipefail -c 'source scripts/lib/setup.sh; mkdir -p build; \
    configure_and_build build/image twinstorm -- \
      -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O2 -DTWINSTORM_WERROR=OFF -DTWINSTORM_TESTS=OFF -DTWINSTORM_BENCH=OFF; \
    DESTDIR=/image cmake --install build/image --prefix /usr --strip; \
    ldd /image/usr/bin/twinstorm | awk -F/ "/=> [/]/ { sub(/ .*/, \"\", \$NF); print \"*/\" \$(NF-1) \"/\" \$NF }" | \
      xargs dpkg -S | sed "s/:.*//" | sort -u >/image/runtime-packages; cat /image/runtime-packages'

FROM debian:bookworm-slim
COPY --from=build /image/runtime-packages /tmp/runtime-packages
RUN apt-get update -qq && \
    xargs apt-get install -y -qq --no-install-recommends </tmp/runtime-packages >/dev/null && \
    rm -rf /var/lib/apt/lists/* /tmp/runtime-packages && \
    useradd --system --user-group --uid 10001 --no-create-home --home-dir /runs --shell /usr/sbin/nologin twinstorm && \
    install -d -o twinstorm -g twinstorm /runs
COPY --from=build /image/usr/ /usr/
USER twinstorm
VOLUME /runs
# Runs go to runs/<scenario>-<time> below the working folder: into the volume.
WORKDIR /
ENTRYPOINT ["twinstorm"]
CMD ["--help"]
