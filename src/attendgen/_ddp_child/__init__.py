"""The script that Lightning starts for further devices.

Python puts the folder of a script on `sys.path`, so the script must not lie beside modules that others could import.
"""
