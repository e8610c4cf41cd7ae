"""Devices and processes: the mesh, agreement and stopping, where compiled programs are kept."""
