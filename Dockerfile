# CPU image: the build stage runs the same set-up script as `npm start` on a fresh machine, the run stage keeps what it made.
FROM node:20-bookworm AS build
WORKDIR /app
COPY . .
RUN npm run prestart && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:20-bookworm-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends libdnnl2 libgomp1 \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build /app/package.json /app/LICENSE /app/NOTICE ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/build/Release build/Release
COPY --from=build /app/dist dist
COPY --from=build /app/web/dist web/dist
COPY --from=build /app/models models
USER node
# For ardiff_build_info: docker build --build-arg ARDIFF_COMMIT=$(git rev-parse --short HEAD)
ARG ARDIFF_COMMIT=unknown
ENV NODE_ENV=production PORT=8080 ARDIFF_COMMIT=$ARDIFF_COMMIT
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "dist/main.js"]
