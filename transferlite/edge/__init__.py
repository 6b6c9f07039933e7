"""Keep a device's model current, watch folders and cameras, and measure speed on the device."""
