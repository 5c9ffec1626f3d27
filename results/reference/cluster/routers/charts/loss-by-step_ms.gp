set terminal svg size 760,420 dynamic noenhanced font 'Helvetica,13' background '#ffffff'
set encoding utf8
set border 3 lc rgb '#444444'
set tics nomirror textcolor rgb '#222222'
set grid ytics lc rgb '#dddddd' lw 1
set format x '%.4g'
set tmargin 2.2
set xlabel "step (ms)"
set ylabel "loss (nats/token)"
set offsets graph 0.12, graph 0.22, graph 0.12, graph 0.08
set key outside right top vertical Left reverse samplen 1
$point1 << END
967.859586 4.26398598 35.2410897 0.0599268314
END
$point2 << END
428.288253 4.25152867 98.4619831 0.029863282
END
$point3 << END
381.642396 4.27611922 129.652051 0.0494155692
END
$point4 << END
354.300118 4.28880765 41.8174643 0.0604361222
END
$point5 << END
270.384629 4.43316059 0.161453938 0.249159444
END
$point6 << END
398.689953 4.26696951 82.0672673 0.0244491996
END
$front << END
270.384629 4.43316059
354.300118 4.28880765
381.642396 4.27611922
398.689953 4.26696951
428.288253 4.25152867
END
plot $point1 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#0072B2' title "topk", \
  $point2 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#D55E00' title "topk, balance loss", \
  $point3 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#009E73' title "bias-balanced", \
  $point4 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#CC79A7' title "node-limited", \
  $point5 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#E69F00' title "expert choice", \
  $point6 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#56B4E9' title "tree", \
  $front using 1:2 with lines dt 2 lw 1 lc rgb '#888888' title 'Pareto front'
