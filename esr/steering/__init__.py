"""What steers: interventions, SAE rows and the hooks on the residual stream; torch, no vLLM."""
