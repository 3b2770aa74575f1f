import { Gauge, type Registry } from 'prom-client';

export interface ModelMetrics {
  /** Returns what to call once it can draw; `asked` may be `auto`, `dtype` is what that came to. */
  loading(model: string, asked: string): (dtype: string, seconds: number) => void;
}

export function createModelMetrics(registry: Registry): ModelMetrics {
  const labelNames = ['model', 'dtype'] as const;
  const loadSeconds = new Gauge({ name: 'ardiff_model_load_seconds', help: 'Time to load the model.', labelNames, registers: [registry] });
  const isLoaded = new Gauge({ name: 'ardiff_model_loaded', help: '1 once the model can draw.', labelNames, registers: [registry] });
  return {
    loading: (model, asked) => {
      isLoaded.set({ model, dtype: asked }, 0);
      return (dtype, seconds) => {
        isLoaded.remove({ model, dtype: asked });
        isLoaded.set({ model, dtype }, 1);
        loadSeconds.set({ model, dtype }, seconds);
      };
    },
  };
}
