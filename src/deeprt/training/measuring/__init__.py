"""What all experiments share: parts and results on disk, statistics, pages, pictures, times, trainings, commands."""
