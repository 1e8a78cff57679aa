<?php
header('Content-Type: text/plain');
echo 'hello from worker ', getmypid(), ' with PHP ', PHP_VERSION, ' at ', $_SERVER['REQUEST_URI'], "\n";
