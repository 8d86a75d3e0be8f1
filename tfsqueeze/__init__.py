"""tfsqueeze: makes trained Keras models small and fast, and puts them on phones, boards and CPUs."""
