# Both programs, static, in an image that holds nothing else.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY devstack/temporald/go.mod devstack/temporald/go.sum devstack/temporald/
COPY devstack/temporald/without devstack/temporald/without
RUN go mod download && cd devstack/temporald && go mod download
COPY . .
ENV CGO_ENABLED=0
RUN go build -trimpath -ldflags="-s -w" -o /out/bin/trimtab ./cmd/trimtab
RUN cd devstack/temporald && go build -trimpath -ldflags="-s -w" -o /out/bin/trimtab-temporal .
RUN mkdir -p /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/bin/ /usr/local/bin/
COPY --from=build --chown=65532:65532 /out/data /data
ENV PATH=/usr/local/bin TRIMTAB_DATA=/data TMPDIR=/data
USER 65532:65532
VOLUME /data
ENTRYPOINT ["/usr/local/bin/trimtab"]
