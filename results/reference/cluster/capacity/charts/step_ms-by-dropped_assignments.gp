set terminal svg size 760,420 dynamic noenhanced font 'Helvetica,13' background '#ffffff'
set encoding utf8
set border 3 lc rgb '#444444'
set tics nomirror textcolor rgb '#222222'
set grid ytics lc rgb '#dddddd' lw 1
set format x '%.4g'
set tmargin 2.2
set xlabel "dropped"
set ylabel "step (ms)"
set offsets graph 0.12, graph 0.22, graph 0.12, graph 0.08
set key outside right top vertical Left reverse samplen 1
$point1 << END
0 217.798959 0 1.13903414
END
$point2 << END
0 272.553591 0 1.32655481
END
$point3 << END
0 335.988563 0 1.50575575
END
$point4 << END
0 471.90695 0 1.21517092
END
$point5 << END
0 282.240432 0 11.2955794
END
$point6 << END
0.00381978353 215.527004 0.00198931696 0
END
$point7 << END
0.0651626587 215.527004 0.00232217993 0
END
$point8 << END
0.132386525 215.527004 0.0011472245 0
END
$point9 << END
0.263430278 215.527004 0.00173299383 0
END
$point10 << END
0.128285726 215.527004 0.0329811036 0
END
$point11 << END
0 217.798959 0 1.13903414
END
$point12 << END
0.0111033122 257.603544 0.000985224495 0
END
$point13 << END
0.0618604024 257.603544 0.00204489855 0
END
$point14 << END
0.193457286 257.603544 0.00176248599 0
END
$point15 << END
0.028107961 257.603544 0.00658513732 0
END
$point16 << END
0 217.798959 0 1.13903414
END
$point17 << END
0 272.553591 0 1.32655481
END
$point18 << END
0.026966095 299.680084 0.00111831599 0
END
$point19 << END
0.130957286 299.680084 0.00176248599 0
END
$point20 << END
0.000412623088 281.684856 0.000890074427 10.9288073
END
$point21 << END
0 217.798959 0 1.13903414
END
$point22 << END
0 272.553591 0 1.32655481
END
$point23 << END
0 335.988563 0 1.50575575
END
$point24 << END
0.0654118856 383.833164 0.000902500331 0
END
$point25 << END
0 282.240432 0 11.2955794
END
$front << END
0 217.798959
0 217.798959
0 217.798959
0 217.798959
0.00381978353 215.527004
END
plot $point1 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#0072B2' title "capacity=0 random", \
  $point2 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#D55E00' title "capacity=0 Zipf 0.25", \
  $point3 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#009E73' title "capacity=0 Zipf 0.5", \
  $point4 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#CC79A7' title "capacity=0 Zipf 1", \
  $point5 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#E69F00' title "capacity=0 recorded", \
  $point6 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#56B4E9' title "capacity=1 random", \
  $point7 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#000000' title "capacity=1 Zipf 0.25", \
  $point8 using 1:2:3:4 with xyerrorbars pt 7 ps 0.9 lw 1.5 lc rgb '#8C6D31' title "capacity=1 Zipf 0.5", \
  $point9 using 1:2:3:4 with xyerrorbars pt 5 ps 0.9 lw 1.5 lc rgb '#0072B2' title "capacity=1 Zipf 1", \
  $point10 using 1:2:3:4 with xyerrorbars pt 5 ps 0.9 lw 1.5 lc rgb '#D55E00' title "capacity=1 recorded", \
  $point11 using 1:2:3:4 with xyerrorbars pt 5 ps 0.9 lw 1.5 lc rgb '#009E73' title "capacity=1.25 random", \
  $point12 using 1:2:3:4 with xyerrorbars pt 5 ps 0.9 lw 1.5 lc rgb '#CC79A7' title "capacity=1.25 Zipf 0.25", \
  $point13 using 1:2:3:4 with xyerrorbars pt 5 ps 0.9 lw 1.5 lc rgb '#E69F00' title "capacity=1.25 Zipf 0.5", \
  $point14 using 1:2:3:4 with xyerrorbars pt 5 ps 0.9 lw 1.5 lc rgb '#56B4E9' title "capacity=1.25 Zipf 1", \
  $point15 using 1:2:3:4 with xyerrorbars pt 5 ps 0.9 lw 1.5 lc rgb '#000000' title "capacity=1.25 recorded", \
  $point16 using 1:2:3:4 with xyerrorbars pt 5 ps 0.9 lw 1.5 lc rgb '#8C6D31' title "capacity=1.5 random", \
  $point17 using 1:2:3:4 with xyerrorbars pt 9 ps 0.9 lw 1.5 lc rgb '#0072B2' title "capacity=1.5 Zipf 0.25", \
  $point18 using 1:2:3:4 with xyerrorbars pt 9 ps 0.9 lw 1.5 lc rgb '#D55E00' title "capacity=1.5 Zipf 0.5", \
  $point19 using 1:2:3:4 with xyerrorbars pt 9 ps 0.9 lw 1.5 lc rgb '#009E73' title "capacity=1.5 Zipf 1", \
  $point20 using 1:2:3:4 with xyerrorbars pt 9 ps 0.9 lw 1.5 lc rgb '#CC79A7' title "capacity=1.5 recorded", \
  $point21 using 1:2:3:4 with xyerrorbars pt 9 ps 0.9 lw 1.5 lc rgb '#E69F00' title "capacity=2 random", \
  $point22 using 1:2:3:4 with xyerrorbars pt 9 ps 0.9 lw 1.5 lc rgb '#56B4E9' title "capacity=2 Zipf 0.25", \
  $point23 using 1:2:3:4 with xyerrorbars pt 9 ps 0.9 lw 1.5 lc rgb '#000000' title "capacity=2 Zipf 0.5", \
  $point24 using 1:2:3:4 with xyerrorbars pt 9 ps 0.9 lw 1.5 lc rgb '#8C6D31' title "capacity=2 Zipf 1", \
  $point25 using 1:2:3:4 with xyerrorbars pt 13 ps 0.9 lw 1.5 lc rgb '#0072B2' title "capacity=2 recorded", \
  $front using 1:2 with lines dt 2 lw 1 lc rgb '#888888' title 'Pareto front'
