"""Run on edge devices: keep the model up to date, watch folders and cameras, and measure speed."""
