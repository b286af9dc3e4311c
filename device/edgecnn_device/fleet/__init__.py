"""Many boards on one MQTT broker: what each says of itself, who looks at them all, how a new model reaches them in stages."""
