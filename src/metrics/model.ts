import { Gauge, type Registry } from 'prom-client';

export interface ModelMetrics {
  loading(model: string, dtype: string): void;
  loaded(model: string, dtype: string, seconds: number): void;
}

export function createModelMetrics(registry: Registry): ModelMetrics {
  const labelNames = ['model', 'dtype'] as const;
  const loadSeconds = new Gauge({ name: 'ardiff_model_load_seconds', help: 'Time to load the model.', labelNames, registers: [registry] });
  const isLoaded = new Gauge({ name: 'ardiff_model_loaded', help: '1 once the model can draw.', labelNames, registers: [registry] });
  return {
    loading: (model, dtype) => {
      isLoaded.set({ model, dtype }, 0);
    },
    loaded: (model, dtype, seconds) => {
      isLoaded.reset();
      isLoaded.set({ model, dtype }, 1);
      loadSeconds.set({ model, dtype }, seconds);
    },
  };
}
