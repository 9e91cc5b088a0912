"""Reading and writing of DICOM (and of NRRD and NIfTI images as Slicer writes them)."""
