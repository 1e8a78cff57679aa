<?php
header('Content-Type: text/plain');
echo 'hello from process ', getmypid(), ' with PHP ', PHP_VERSION, "\n";
