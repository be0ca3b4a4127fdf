"""The collector: MQTT to validated points to the store, and an acknowledgement only after that."""
