"""Figures of a role for Prometheus; imported only where THALWEG_METRICS_PORT is set."""
